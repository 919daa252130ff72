"""Preprocess: which image is for training, which for validation, which for the test."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from system.storage.objects import ObjectStore
from system.training.ingest import BUCKET, Dataset

SPLITS_NAME = "splits.json"
SCHEMA = "ml.splits/1"

_TRAIN, _VALIDATION, _TEST = 0.70, 0.15, 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Paths of the images of each part; no image is in two.

    Attributes:
        seed: that drew the parts.
        train: fits the weights, 70 %.
        validation: chooses the epoch, 15 %.
        test: judges, 15 %; nothing else sees it.
        schema: of the file.
    """

    seed: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    schema: str = SCHEMA


def preprocess(objects: ObjectStore, dataset: Dataset, seed: int) -> Splits:
    """Split each class 70/15/15 and write `splits.json` beside the dataset.

    The draw depends on the seed and the order of the files alone: the same digits ingested again are split alike, so a
    model in production is never tested on an image that it was trained with.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - takes a second, and only this step needs it

    paths = [file.path for file in dataset.files]
    labels = [file.label for file in dataset.files]
    train, rest, _, rest_labels = train_test_split(paths, labels, train_size=_TRAIN, stratify=labels, random_state=seed)
    share = _VALIDATION / (_VALIDATION + _TEST)
    validation, test = train_test_split(rest, train_size=share, stratify=rest_labels, random_state=seed)
    splits = Splits(seed=seed, train=tuple(train), validation=tuple(validation), test=tuple(test))
    objects.put(BUCKET, f"{dataset.version}/{SPLITS_NAME}", json.dumps(asdict(splits), indent=1).encode())
    return splits
