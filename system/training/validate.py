"""Validate: nothing is trained on data that is missing, altered, out of balance or not images."""

from __future__ import annotations

from collections import Counter

from system.errors import DataError, InvalidImage, UnsupportedMedia
from system.model.artifact import MANIFEST_NAME, sha256_hex
from system.model.transform import to_tensor
from system.storage.objects import ObjectStore
from system.training.ingest import BUCKET, Dataset, ImageFile
from system.training.preprocess import SPLITS_NAME

CLASSES = 10
MAX_PIXELS = 1_000_000
LEAST_PER_CLASS = 20
LEAST_CONTRAST = 32  # levels between an image's darkest and lightest value

_SHOWN = 5


def validate(objects: ObjectStore, dataset: Dataset) -> None:
    """Check the manifest's files, their checksums, pixels and classes.

    Raises:
        DataError: naming the first few things that are wrong, and how many there are.
    """
    problems = _names(objects, dataset) + _balance(dataset)
    for file in dataset.files:
        if problem := _content(objects, dataset.version, file):
            problems.append(problem)
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(f"dataset {dataset.version}: {'; '.join(problems[:_SHOWN])}{more}; ingest again")


def _names(objects: ObjectStore, dataset: Dataset) -> list[str]:
    """Files that are missing, that nobody vouches for, or that are listed twice."""
    prefix = f"{dataset.version}/"
    listed = Counter(file.path for file in dataset.files)
    found = {key.removeprefix(prefix) for key in objects.list(BUCKET, prefix)} - {MANIFEST_NAME, SPLITS_NAME}
    return (
        [f"{path} is missing" for path in sorted(listed.keys() - found)]
        + [f"{path} is not in the manifest" for path in sorted(found - listed.keys())]
        + [f"{path} is listed {count} times" for path, count in listed.items() if count > 1]
    )


def _balance(dataset: Dataset) -> list[str]:
    """Classes that are unknown, absent or rare: fewer than half of an even share, or than can be split in three."""
    counts = Counter(file.label for file in dataset.files)
    least = max(LEAST_PER_CLASS, len(dataset.files) / CLASSES / 2)
    return [
        f"class {label} has {counts[label]} images, at least {least:.0f} are needed"
        for label in range(CLASSES)
        if counts[label] < least
    ] + [f"class {label} is unknown" for label in sorted(counts.keys() - set(range(CLASSES)))]


def _content(objects: ObjectStore, version: str, file: ImageFile) -> str | None:
    """What is wrong with one file; None when nothing is, or when it is missing, which `_names` tells."""
    key = f"{version}/{file.path}"
    if not objects.exists(BUCKET, key):
        return None
    body = objects.get(BUCKET, key)
    if sha256_hex(body) != file.sha256:
        return f"{file.path} was altered: its sha256 is not the manifest's"
    try:
        pixels = to_tensor(body, file.media_type, max_pixels=MAX_PIXELS)
    except (InvalidImage, UnsupportedMedia) as error:
        return f"{file.path}: {error}"
    contrast = int(pixels.max()) - int(pixels.min())
    return None if contrast >= LEAST_CONTRAST else f"{file.path} is blank: its values span {contrast} of 255 levels"
