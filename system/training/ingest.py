"""Ingest: scikit-learn's handwritten digits become image files in the bucket `ml-datasets`, under a version.

A dataset is `<version>/<label>/<number>.jpg|png` and `<version>/manifest.json`, which is written last: a version without
one was cut short. The same digits give the same bytes, so the checksums of two versions can be compared.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from system.errors import DataError
from system.model.artifact import MANIFEST_NAME, sha256_hex
from system.model.transform import JPEG, PNG, SIDE, Pixels
from system.storage.objects import ObjectMissing, ObjectStore

BUCKET = "ml-datasets"
SCHEMA = "ml.dataset/1"

_QUALITY = 92
_WRITERS = 16  # each write waits for the disk; together they share its flushes
_INK = 16  # the largest value of a digit's pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One image of a dataset.

    Attributes:
        path: below the version, as in `7/0042.png`.
        label: 0 to 9.
        media_type: of the file.
        sha256: of the file, hexadecimal.
    """

    path: str
    label: int
    media_type: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The manifest of a dataset.

    Attributes:
        version: when it was made, YYYY-MM-DD-HHMMSS, UTC.
        source: where the images come from.
        files: in the order of the source.
        schema: of the manifest.
    """

    version: str
    source: str
    files: tuple[ImageFile, ...]
    schema: str = SCHEMA


def ingest(objects: ObjectStore, now: datetime) -> Dataset:
    """Render every digit into a new version, JPEG and PNG by turns.

    Args:
        objects: where the dataset goes.
        now: the time that names the version, with a zone.

    Raises:
        DataError: the version exists.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second, and only this step needs it

    version = now.astimezone(UTC).strftime("%Y-%m-%d-%H%M%S")
    if objects.list(BUCKET, f"{version}/"):
        raise DataError(f"dataset version {version} exists; a version names one second, start again in the next")
    digits = load_digits()

    def store(number: int) -> ImageFile:
        body, suffix, media_type = render(digits.images[number], as_jpeg=number % 2 == 0)
        label = int(digits.target[number])
        path = f"{label}/{number:04}.{suffix}"
        objects.put(BUCKET, f"{version}/{path}", body)
        return ImageFile(path=path, label=label, media_type=media_type, sha256=sha256_hex(body))

    with ThreadPoolExecutor(_WRITERS) as pool:
        files = tuple(pool.map(store, range(len(digits.target))))
    source = f"scikit-learn {package_version('scikit-learn')}, sklearn.datasets.load_digits"
    dataset = Dataset(version=version, source=source, files=files)
    objects.put(BUCKET, f"{version}/{MANIFEST_NAME}", json.dumps(asdict(dataset), indent=1).encode())
    return dataset


def render(grey: npt.NDArray[np.float64], *, as_jpeg: bool) -> tuple[bytes, str, str]:
    """One digit, float (8, 8), 0 paper to 16 ink, as a 32x32 RGB file in dark ink on white: bytes, suffix, media type."""
    large = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    pixels: Pixels = np.clip(np.rint(255 - large * (255 / _INK)), 0, 255).astype(np.uint8)
    suffix, media_type = ("jpg", JPEG) if as_jpeg else ("png", PNG)
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if as_jpeg else []
    _, encoded = cv2.imencode(f".{suffix}", cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), options)
    return encoded.tobytes(), suffix, media_type


def read_dataset(objects: ObjectStore, version: str) -> Dataset:
    """The manifest of a version.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    key = f"{version}/{MANIFEST_NAME}"
    try:
        document: Any = json.loads(objects.get(BUCKET, key))
        dataset = TypeAdapter(Dataset).validate_python(document)
    except ObjectMissing:
        raise DataError(f"dataset {version} has no {MANIFEST_NAME}: its ingest was cut short; ingest again") from None
    except (ValueError, ValidationError) as error:
        raise DataError(f"{BUCKET}/{key} is not a manifest: {error}; ingest again") from error
    if (dataset.schema, dataset.version) != (SCHEMA, version):
        raise DataError(f"{BUCKET}/{key} is {dataset.schema} of {dataset.version}, not {SCHEMA} of {version}; ingest again")
    return dataset
