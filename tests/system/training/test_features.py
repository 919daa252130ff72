from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from system.model.artifact import sha256_hex
from system.model.transform import MEDIA_TYPES, sniff, to_tensor
from system.storage.objects import ObjectMissing, ObjectStore
from system.training.features import features
from system.training.ingest import BUCKET, Dataset, ImageFile
from system.training.preprocess import Splits, preprocess


def test_pixels_and_labels_are_those_of_the_paths(objects: ObjectStore, dataset: Dataset) -> None:
    splits = preprocess(objects, dataset, 1)
    found = features(objects, dataset, splits)
    files = {file.path: file for file in dataset.files}
    for part, paths in ((found.train, splits.train), (found.validation, splits.validation), (found.test, splits.test)):
        assert part.images.shape == (len(paths), 32, 32, 3)
        assert part.images.dtype == np.uint8
        assert part.labels.tolist() == [files[path].label for path in paths]
        body = objects.get(BUCKET, f"{dataset.version}/{paths[-1]}")
        np.testing.assert_array_equal(part.images[-1:], to_tensor(body, files[paths[-1]].media_type, max_pixels=1024))


def test_mean_and_std_are_those_of_the_training_images_alone(objects: ObjectStore, dataset: Dataset) -> None:
    found = features(objects, dataset, preprocess(objects, dataset, 1))
    values = found.train.images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.std, values.std(axis=0), rtol=1e-6)
    assert found.mean.dtype == found.std.dtype == np.float32


def test_a_file_that_vanished_is_named(objects: ObjectStore, dataset: Dataset) -> None:
    splits = preprocess(objects, dataset, 1)
    objects.delete(BUCKET, f"{dataset.version}/{splits.test[0]}")
    with pytest.raises(ObjectMissing, match=splits.test[0]):
        features(objects, dataset, splits)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("size", [(32, 32), (61, 47), (300, 200)])
def test_training_sees_the_bytes_that_serving_sees(objects: ObjectStore, media_type: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, media_type.removeprefix("image/"))
    body, path, version = buffer.getvalue(), "3/0000", "2026-01-02-030405"
    objects.put(BUCKET, f"{version}/{path}", body)
    file = ImageFile(path=path, label=3, media_type=media_type, sha256=sha256_hex(body))
    dataset = Dataset(version=version, source="noise", files=(file,))
    found = features(objects, dataset, Splits(seed=1, train=(path,), validation=(path,), test=(path,)))
    served = to_tensor(body, sniff(body), max_pixels=40_000_000)
    for part in (found.train, found.validation, found.test):
        assert part.images.tobytes() == served.tobytes()
