from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from system.storage.objects import ObjectStore
from system.training.ingest import BUCKET, Dataset
from system.training.preprocess import preprocess


def test_every_image_is_in_exactly_one_part(objects: ObjectStore, dataset: Dataset) -> None:
    splits = preprocess(objects, dataset, 1)
    together = [*splits.train, *splits.validation, *splits.test]
    assert sorted(together) == sorted(file.path for file in dataset.files)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1257, 270, 270)


def test_every_part_has_the_same_share_of_every_class(objects: ObjectStore, dataset: Dataset) -> None:
    splits = preprocess(objects, dataset, 1)
    labels = {file.path: file.label for file in dataset.files}
    whole = Counter(labels.values())
    for paths, share in ((splits.train, 0.70), (splits.validation, 0.15), (splits.test, 0.15)):
        counts = Counter(labels[path] for path in paths)
        assert all(abs(counts[label] - share * whole[label]) <= 1 for label in whole)


def test_the_seed_and_the_order_alone_decide(objects: ObjectStore, dataset: Dataset) -> None:
    first = preprocess(objects, dataset, 1)
    later = preprocess(objects, replace(dataset, version="2026-01-02-030406"), 1)
    assert later == first
    assert preprocess(objects, dataset, 2).test != first.test


def test_the_parts_are_written_beside_the_dataset(objects: ObjectStore, dataset: Dataset) -> None:
    splits = preprocess(objects, dataset, 1)
    document = json.loads(objects.get(BUCKET, f"{dataset.version}/splits.json"))
    assert (document["schema"], document["seed"], tuple(document["test"])) == ("ml.splits/1", 1, splits.test)
