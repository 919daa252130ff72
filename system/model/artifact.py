"""The artifact that is served: a folder with graphs, answers to check them by, and the `manifest.json` that vouches for all.

A graph takes `image`, uint8 (batch, side, side, 3) RGB, and yields `probabilities`, float32 (batch, classes). A model is one
graph in float32, `model.onnx`, and its variants: other ways to run it that passed the gate at registration. `golden.npz` holds
images of the test split with the answers of the float32 graph, by which a server proves that its own machine agrees.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from system.errors import RegistryError
from system.model.transform import SIDE, Pixels

SCHEMA = "ml.model/2"
ONNX_NAME = "model.onnx"
INT8_NAME = "model.int8.onnx"
OPENVINO_INT8_NAME = "model.openvino-int8.onnx"
GOLDEN_NAME = "golden.npz"
MANIFEST_NAME = "manifest.json"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"

FP32 = "fp32"
LARGEST_FP32_DIFFERENCE = 1e-3  # kernels of other processors sum in another order
LARGEST_MEAN_DIFFERENCE = 0.01
LEAST_GOLDEN_AGREEMENT = 0.95

Probabilities = npt.NDArray[np.float32]
EngineName = Literal["onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]

KINDS: dict[str, tuple[str, EngineName, Precision]] = {
    FP32: (ONNX_NAME, "onnxruntime", "fp32"),
    "int8": (INT8_NAME, "onnxruntime", "int8"),
    "openvino-bf16": (ONNX_NAME, "openvino", "bf16"),
    "openvino-int8": (OPENVINO_INT8_NAME, "openvino", "int8"),
}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What every graph takes.

    Attributes:
        name: of the graph's input.
        dtype: numpy's name of the element type.
        shape: a size, or a word for a size that is free.
    """

    name: str = INPUT_NAME
    dtype: str = "uint8"
    shape: tuple[int | str, ...] = ("batch", SIDE, SIDE, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the model.

    Attributes:
        name: as settings and metrics call it.
        file: the graph, in the manifest's folder.
        sha256: of that file, hexadecimal.
        engine: the library that runs it.
        precision: that it computes in.
        accuracy: share of right answers on the test split, 0 to 1.
        agreement: share of test images with the class that the float32 graph gives, 0 to 1.
    """

    name: str
    file: str
    sha256: str
    engine: EngineName
    precision: Precision
    accuracy: float
    agreement: float

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.file):
            raise ValueError(f"variant {self.name} names the file {self.file!r}, not a plain name that ends in .onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What training knows about a model.

    Attributes:
        model: registered name.
        version: of the model in the registry.
        labels: of the classes, in the order of the probabilities.
        metrics: name to value, on the test split.
        dataset_version: of the images that it was trained with.
        git_sha: of the code that trained it; "unknown" outside a checkout.
    """

    model: str
    version: str
    labels: tuple[str, ...]
    metrics: dict[str, float]
    dataset_version: str
    git_sha: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Facts):
    """What is known about one registered model, and about every file of it.

    Attributes:
        sha256: of `model.onnx`, hexadecimal.
        golden_sha256: of `golden.npz`, hexadecimal.
        variants: every way to run it; the first is the float32 graph.
        input: of every graph.
        schema: of the file.
    """

    sha256: str
    golden_sha256: str
    variants: tuple[Variant, ...]
    input: Input = Input()
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        first = self.variants[0] if self.variants else None
        if first is None or (first.name, first.file, first.sha256) != (FP32, ONNX_NAME, self.sha256):
            raise ValueError(f"the first variant is not {FP32} on {ONNX_NAME} with the model's own sha256")
        if len({variant.name for variant in self.variants}) < len(self.variants):
            raise ValueError("two variants have the same name")
        match self.input.shape:
            case (str(), int(height), int(width), 3) if height == width > 0:
                pass
            case shape:
                raise ValueError(f"the input's shape is {shape}, not (batch, side, side, 3)")

    @property
    def side(self) -> int:
        """Height and width of the images that the graphs take, pixels."""
        return int(self.input.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Images of the test split, of every class, and what the float32 graph said when the model was registered.

    Attributes:
        images: uint8 (n, side, side, 3).
        probabilities: float32 (n, classes).
    """

    images: Pixels
    probabilities: Probabilities

    def complaint(self, found: Probabilities, variant: Variant) -> str | None:
        """Why answers to the images, float32 (n, classes), are not those of the variant; None when they are.

        In float32: no probability is more than 1e-3 away and no class differs. Otherwise: the mean distance of a
        probability is at most 0.01, and at least 95 % of the classes are the same.
        """
        expected = self.probabilities
        if found.shape != expected.shape:
            return f"{variant.name} answers {found.shape} to the golden images, not {expected.shape}"
        if not np.isfinite(found).all():
            return f"{variant.name} answers the golden images with numbers that are not finite"
        distance = np.abs(found - expected)
        same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
        if variant.precision == "fp32":
            holds = distance.max() <= LARGEST_FP32_DIFFERENCE and same == 1
        else:
            holds = distance.mean() <= LARGEST_MEAN_DIFFERENCE and same >= LEAST_GOLDEN_AGREEMENT
        if holds:
            return None
        return (
            f"{variant.name} gives {same:.1%} of the {len(expected)} golden images their class, with probabilities "
            f"{distance.mean():.1e} away on average and {distance.max():.1e} at most"
        )


def describe(folder: Path, name: str, *, accuracy: float, agreement: float) -> Variant:
    """The variant of that name, one of "fp32", "int8", "openvino-bf16" and "openvino-int8", whose graph is in the folder."""
    file, engine, precision = KINDS[name]
    sha256 = sha256_file(folder / file)
    return Variant(
        name=name, file=file, sha256=sha256, engine=engine, precision=precision, accuracy=accuracy, agreement=agreement
    )


def seal(folder: Path, facts: Facts, variants: Sequence[Variant], golden: Golden) -> Manifest:
    """Write `golden.npz` and `manifest.json` beside the graphs; the same arguments give the same bytes."""
    np.savez(folder / GOLDEN_NAME, images=golden.images, probabilities=golden.probabilities)
    manifest = Manifest(
        **asdict(facts),
        sha256=sha256_file(folder / ONNX_NAME),
        golden_sha256=sha256_file(folder / GOLDEN_NAME),
        variants=tuple(variants),
        input=Input(shape=("batch", *golden.images.shape[1:])),
    )
    write_manifest(manifest, folder)
    return manifest


def files(manifest: Manifest) -> tuple[str, ...]:
    """Names of all files besides the manifest, each once."""
    return tuple(_checksums(manifest))


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of the bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json`; the same manifest gives the same bytes."""
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True, allow_nan=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        RegistryError: it is missing, no JSON, of another schema, lacks a field, or contradicts itself.
    """
    path = folder / MANIFEST_NAME
    try:
        document: Any = json.loads(path.read_bytes())
        found = document.get("schema") if isinstance(document, dict) else None
        if found != SCHEMA:
            raise RegistryError(f"{path} has schema {found!r}, not {SCHEMA!r}; register the model again")
        return TypeAdapter(Manifest).validate_python(document)
    except FileNotFoundError:
        raise RegistryError(f"{path} is missing; fetch the model again") from None
    except (OSError, ValueError, ValidationError) as error:
        raise RegistryError(f"{path} cannot be read as a manifest: {error}; fetch the model again") from error


def verify(folder: Path) -> Manifest:
    """The manifest of a folder in which every file is, byte for byte, the one that the manifest vouches for.

    Raises:
        RegistryError: a file is missing or unreadable, or a checksum differs.
    """
    manifest = read_manifest(folder)
    for name, expected in _checksums(manifest).items():
        path = folder / name
        try:
            found = sha256_file(path)
        except OSError as error:
            raise RegistryError(f"{path} cannot be read: {error.strerror}; fetch the model again") from error
        if found != expected:
            raise RegistryError(f"{path} has sha256 {found}, its manifest says {expected}; it was altered, fetch it again")
    return manifest


def read_golden(folder: Path) -> Golden:
    """Read `golden.npz` of a verified folder.

    Raises:
        RegistryError: it is missing, or does not hold images and answers in equal number.
    """
    path = folder / GOLDEN_NAME
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            golden = Golden(arrays["images"], arrays["probabilities"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RegistryError(f"{path} cannot be read as golden answers: {error}; fetch the model again") from error
    images, answers = golden.images, golden.probabilities
    kinds = [(array.dtype.name, array.ndim) for array in (images, answers)]
    if kinds != [("uint8", 4), ("float32", 2)] or not len(images) == len(answers) > 0:
        raise RegistryError(f"{path} holds {images.dtype} {images.shape} and {answers.dtype} {answers.shape}; register it again")
    return golden


def _checksums(manifest: Manifest) -> dict[str, str]:
    """File to sha256; two variants may share a graph."""
    return {variant.file: variant.sha256 for variant in manifest.variants} | {GOLDEN_NAME: manifest.golden_sha256}
