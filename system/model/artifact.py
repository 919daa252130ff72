"""The artifact that is served: a folder with `model.onnx` and the `manifest.json` that vouches for it.

The graph takes `image`, uint8 (batch, 32, 32, 3) RGB, and yields `probabilities`, float32 (batch, 10).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from system.errors import RegistryError
from system.model.transform import SIDE, Pixels

SCHEMA = "ml.model/1"
ONNX_NAME = "model.onnx"
MANIFEST_NAME = "manifest.json"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"

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


def probabilities(path: Path, images: Pixels) -> npt.NDArray[np.float32]:
    """What a graph says: float32 (n, 10) for images, uint8 (n, 32, 32, 3)."""
    import onnxruntime  # noqa: PLC0415 - reading a manifest needs no runtime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] for batch in batches])
