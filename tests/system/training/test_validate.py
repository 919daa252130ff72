from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from system.errors import DataError
from system.model.artifact import sha256_hex
from system.storage.objects import ObjectStore
from system.training.ingest import BUCKET, Dataset, ImageFile, render
from system.training.preprocess import preprocess
from system.training.validate import validate


def rewritten(objects: ObjectStore, dataset: Dataset, body: bytes, number: int = 1) -> Dataset:
    """The dataset with other bytes in one file, and a manifest that agrees with them."""
    file = dataset.files[number]
    objects.put(BUCKET, f"{dataset.version}/{file.path}", body)
    return with_file(dataset, number, replace(file, sha256=sha256_hex(body)))


def with_file(dataset: Dataset, number: int, file: ImageFile) -> Dataset:
    return replace(dataset, files=(*dataset.files[:number], file, *dataset.files[number + 1 :]))


def test_a_fresh_dataset_is_valid_before_and_after_the_split(objects: ObjectStore, dataset: Dataset) -> None:
    validate(objects, dataset)
    preprocess(objects, dataset, 1)
    validate(objects, dataset)


def test_one_flipped_bit_is_found(objects: ObjectStore, dataset: Dataset) -> None:
    key = f"{dataset.version}/{dataset.files[700].path}"
    body = bytearray(objects.get(BUCKET, key))
    body[-20] ^= 1
    objects.put(BUCKET, key, bytes(body))
    with pytest.raises(DataError, match=rf"{dataset.files[700].path} was altered"):
        validate(objects, dataset)


def test_a_missing_file_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    objects.delete(BUCKET, f"{dataset.version}/{dataset.files[3].path}")
    with pytest.raises(DataError, match=f"{dataset.files[3].path} is missing; ingest again"):
        validate(objects, dataset)


def test_a_file_that_nobody_vouches_for_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    objects.put(BUCKET, f"{dataset.version}/0/extra.png", b"x")
    with pytest.raises(DataError, match=r"0/extra\.png is not in the manifest"):
        validate(objects, dataset)


def test_a_file_that_is_listed_twice_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"is listed 2 times"):
        validate(objects, replace(dataset, files=(*dataset.files, dataset.files[0])))


def test_a_class_that_is_missing_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    for file in dataset.files:
        if file.label == 4:
            objects.delete(BUCKET, f"{dataset.version}/{file.path}")
    rest = tuple(file for file in dataset.files if file.label != 4)
    with pytest.raises(DataError, match=r"class 4 has 0 images, at least 81 are needed; ingest again"):
        validate(objects, replace(dataset, files=rest))


def test_a_rare_class_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    fours = [file for file in dataset.files if file.label == 4]
    for file in fours[30:]:
        objects.delete(BUCKET, f"{dataset.version}/{file.path}")
    rest = tuple(file for file in dataset.files if file.label != 4 or file in fours[:30])
    with pytest.raises(DataError, match="class 4 has 30 images"):
        validate(objects, replace(dataset, files=rest))


def test_an_unknown_class_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="class 10 is unknown"):
        validate(objects, with_file(dataset, 0, replace(dataset.files[0], label=10)))


def test_an_empty_dataset_is_refused(objects: ObjectStore) -> None:
    with pytest.raises(DataError, match=r"class 0 has 0 images.* and 5 more; ingest again"):
        validate(objects, Dataset(version="2026-01-02-030406", source="nothing", files=()))


def test_a_file_that_is_no_image_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    with pytest.raises(DataError, match=rf"{dataset.files[1].path}: the body is not a whole PNG"):
        validate(objects, rewritten(objects, dataset, b"not an image"))


def test_a_blank_image_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    blank, _, _ = render(np.zeros((8, 8)), as_jpeg=False)
    with pytest.raises(DataError, match=r"is blank: its values span 0 of 255 levels"):
        validate(objects, rewritten(objects, dataset, blank))


def test_an_unknown_media_type_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="'image/gif' is not supported"):
        validate(objects, with_file(dataset, 0, replace(dataset.files[0], media_type="image/gif")))


def test_many_problems_are_counted_and_a_few_shown(objects: ObjectStore, dataset: Dataset) -> None:
    for file in dataset.files[:8]:
        objects.put(BUCKET, f"{dataset.version}/{file.path}", b"x")
    with pytest.raises(DataError, match=r"and 3 more; ingest again") as caught:
        validate(objects, dataset)
    assert str(caught.value).count("was altered") == 5
