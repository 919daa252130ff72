from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from system.errors import DataError
from system.model.artifact import sha256_hex
from system.model.transform import to_tensor
from system.storage.objects import FolderStore, ObjectStore
from system.training.ingest import BUCKET, Dataset, ingest, read_dataset, render

VERSION = "2026-01-02-030405"


def test_every_digit_becomes_a_file_that_the_manifest_vouches_for(objects: ObjectStore, dataset: Dataset) -> None:
    assert dataset.version == VERSION
    assert len(dataset.files) == 1797
    for file in dataset.files[:20]:
        assert sha256_hex(objects.get(BUCKET, f"{VERSION}/{file.path}")) == file.sha256
    assert {key.rpartition(".")[2] for key in objects.list(BUCKET)} == {"jpg", "png", "json"}


def test_the_labels_are_those_of_the_source(dataset: Dataset) -> None:
    assert [file.label for file in dataset.files] == load_digits().target.tolist()


def test_the_manifest_reads_back(objects: ObjectStore, dataset: Dataset) -> None:
    assert read_dataset(objects, VERSION) == dataset


def test_the_same_digits_give_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=2))
    again = ingest(FolderStore(tmp_path), datetime(2027, 1, 1, 1, 0, 0, tzinfo=zone))
    assert again.version == "2026-12-31-230000"
    assert again.files == dataset.files


def test_a_version_is_never_written_twice(objects: ObjectStore) -> None:
    with pytest.raises(DataError, match=f"{VERSION} exists"):
        ingest(objects, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.mark.parametrize("as_jpeg", [True, False])
def test_ink_is_dark_on_white_paper(as_jpeg: bool) -> None:  # noqa: FBT001 - the parameter is the case
    grey = np.zeros((8, 8))
    grey[3:5, 3:5] = 16
    body, _, media_type = render(grey, as_jpeg=as_jpeg)
    pixels = to_tensor(body, media_type, max_pixels=32 * 32)[0]
    assert pixels[0].min() > 240
    assert pixels[15:17, 15:17].max() < 15
    assert np.ptp(pixels.astype(int), axis=2).max() <= 2


def test_a_version_that_was_cut_short_is_no_dataset(objects: ObjectStore) -> None:
    objects.delete(BUCKET, f"{VERSION}/manifest.json")
    with pytest.raises(DataError, match="its ingest was cut short"):
        read_dataset(objects, VERSION)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "x"}'])
def test_a_damaged_manifest_is_refused(objects: ObjectStore, text: str) -> None:
    objects.put(BUCKET, f"{VERSION}/manifest.json", text.encode())
    with pytest.raises(DataError, match="is not a manifest"):
        read_dataset(objects, VERSION)


@pytest.mark.parametrize(("name", "value"), [("schema", "ml.dataset/2"), ("version", "2026-01-02-030406")])
def test_the_manifest_of_something_else_is_refused(objects: ObjectStore, name: str, value: str) -> None:
    document = json.loads(objects.get(BUCKET, f"{VERSION}/manifest.json"))
    objects.put(BUCKET, f"{VERSION}/manifest.json", json.dumps(document | {name: value}).encode())
    with pytest.raises(DataError, match=value):
        read_dataset(objects, VERSION)
