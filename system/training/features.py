"""Features: the pixels that the network sees, through the transform that serving uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from system.model.transform import Pixels, to_tensor
from system.storage.objects import ObjectStore
from system.training.ingest import BUCKET, Dataset
from system.training.preprocess import Splits
from system.training.validate import MAX_PIXELS

_CHANNELS = (0, 1, 2)  # over images, rows and columns


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a dataset.

    Attributes:
        images: uint8 (n, 32, 32, 3), RGB.
        labels: int64 (n,), 0 to 9.
    """

    images: Pixels
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Every part, and the numbers that normalise a pixel.

    Attributes:
        train, validation, test: the parts.
        mean: float32 (3,), of each channel over the training images, 0 to 255.
        std: float32 (3,), likewise.
    """

    train: Part
    validation: Part
    test: Part
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]


def features(objects: ObjectStore, dataset: Dataset, splits: Splits) -> Features:
    """Read and decode every image; mean and std come from the training images alone."""
    files = {file.path: file for file in dataset.files}

    def part(paths: tuple[str, ...]) -> Part:
        images = [
            to_tensor(objects.get(BUCKET, f"{dataset.version}/{path}"), files[path].media_type, max_pixels=MAX_PIXELS)
            for path in paths
        ]
        return Part(np.concatenate(images), np.array([files[path].label for path in paths], dtype=np.int64))

    train = part(splits.train)
    mean = train.images.mean(axis=_CHANNELS).astype(np.float32)
    std = train.images.std(axis=_CHANNELS).astype(np.float32)
    return Features(train=train, validation=part(splits.validation), test=part(splits.test), mean=mean, std=std)
