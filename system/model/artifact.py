"""The artifact that is served: a folder with `model.onnx` and the `manifest.json` that vouches for it.

The graph takes `image`, uint8 (batch, 32, 32, 3) RGB, and yields `probabilities`, float32 (batch, 10).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from system.errors import RegistryError
from system.model.transform import SIDE, Pixels

if TYPE_CHECKING:
    from system.model.network import ResNet8

SCHEMA = "ml.model/1"
ONNX_NAME = "model.onnx"
MANIFEST_NAME = "manifest.json"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
LARGEST_DIFFERENCE = 1e-4

_OPSET = 17
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What the graph takes.

    Attributes:
        name: of the graph's input.
        dtype: numpy's name of the element type.
        shape: a size, or a word for a size that is free.
    """

    name: str = INPUT_NAME
    dtype: str = "uint8"
    shape: tuple[int | str, ...] = ("batch", SIDE, SIDE, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is known about one registered model.

    Attributes:
        model: registered name.
        version: of the model in the registry.
        sha256: of `model.onnx`, hexadecimal.
        labels: of the classes, in the order of the probabilities.
        metrics: name to value, on the test split.
        dataset_version: of the images that it was trained with.
        git_sha: of the code that trained it; "unknown" outside a checkout.
        input: of the graph.
        schema: of the file.
    """

    model: str
    version: str
    sha256: str
    labels: tuple[str, ...]
    metrics: dict[str, float]
    dataset_version: str
    git_sha: str
    input: Input = Input()
    schema: str = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far the exported graph is from the network.

    Attributes:
        largest_difference: of any probability.
        top1_agreement: share of images that both give the same class, 0 to 1.
    """

    largest_difference: float
    top1_agreement: float

    @property
    def holds(self) -> bool:
        """Whether the graph may stand in for the network: at most 1e-4 apart, the same class for every image."""
        return self.largest_difference <= LARGEST_DIFFERENCE and self.top1_agreement == 1.0


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
        RegistryError: it is missing, no JSON, of another schema, or lacks a field.
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
    """The manifest of a folder whose model is, byte for byte, the one that the manifest vouches for.

    Raises:
        RegistryError: either file is missing or unreadable, or the checksum differs.
    """
    manifest = read_manifest(folder)
    path = folder / ONNX_NAME
    try:
        found = sha256_file(path)
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}; fetch the model again") from error
    if found != manifest.sha256:
        raise RegistryError(f"{path} has sha256 {found}, its manifest says {manifest.sha256}; it was altered, fetch it again")
    return manifest


def export_onnx(network: ResNet8, path: Path) -> None:
    """Write the network as an ONNX graph with normalisation, folded BatchNorm and softmax inside."""
    import torch  # noqa: PLC0415 - serving reads manifests without torch

    images = torch.zeros((1, SIDE, SIDE, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The successor of this exporter needs onnxscript and a minute for a first call; torch is pinned, so the old one stays.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            torch.nn.Sequential(network.folded(), torch.nn.Softmax(dim=1)).eval(),
            (images,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def probabilities(path: Path, images: Pixels) -> npt.NDArray[np.float32]:
    """What a graph says: float32 (n, 10) for images, uint8 (n, 32, 32, 3)."""
    import onnxruntime  # noqa: PLC0415 - reading a manifest needs no runtime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] for batch in batches])


def parity(network: ResNet8, path: Path, images: Pixels) -> Parity:
    """Compare the network in torch with its graph in ONNX Runtime on images, uint8 (n, 32, 32, 3), n at least 1."""
    import torch  # noqa: PLC0415 - see export_onnx

    network.eval()
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(images)), dim=1).numpy()
    found = probabilities(path, images)
    return Parity(
        largest_difference=float(np.abs(expected - found).max()),
        top1_agreement=float((expected.argmax(1) == found.argmax(1)).mean()),
    )
