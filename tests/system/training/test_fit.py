from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from system.config import TrainSettings
from system.training.features import Features, Part
from system.training.fit import Epoch, _accuracy, _moved, fit


def make_settings(**changed: float) -> TrainSettings:
    values = {"objects_url": "file:///nowhere", "mlflow_url": "http://nowhere", "epochs": 1, "seed": 1} | changed
    return TrainSettings.model_validate(values)


def small(data: Features, images: int = 128) -> Features:
    """The first few training images, to be fast."""
    return replace(data, train=Part(data.train.images[:images], data.train.labels[:images]))


def test_it_learns(data: Features) -> None:
    epochs: list[Epoch] = []
    network = fit(small(data, 640), make_settings(epochs=4), epochs.append)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[-1].loss < epochs[0].loss
    assert _accuracy(network, data.validation) > 0.5  # guessing gives 0.1


def test_the_same_seed_gives_the_same_weights(data: Features) -> None:
    first, second = (fit(small(data), make_settings(), lambda _: None).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = fit(small(data), make_settings(seed=2), lambda _: None).state_dict()
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_the_best_epoch_wins(data: Features) -> None:
    epochs: list[Epoch] = []
    network = fit(small(data), make_settings(epochs=5, learning_rate=1.0), epochs.append)
    assert _accuracy(network, data.validation) == max(epoch.accuracy for epoch in epochs)
    assert not network.training


def test_the_network_carries_the_normalisation(data: Features) -> None:
    network = fit(small(data), make_settings(), lambda _: None)
    np.testing.assert_array_equal(network.mean.numpy().ravel(), data.mean)
    np.testing.assert_array_equal(network.std.numpy().ravel(), data.std)


def test_moved_images_are_the_same_digits_elsewhere() -> None:
    image = np.full((1, 32, 32, 3), 255, np.uint8)
    image[0, 16, 16] = 0
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(200):
        moved = _moved(image, rng)
        assert moved.shape == (1, 32, 32, 3)
        assert moved.dtype == np.uint8
        assert (moved == 0).sum() == 3
        places.add(tuple(int(index) for index in np.argwhere(moved[0, ..., 0] == 0)[0]))
    assert places == {(y, x) for y in range(14, 19) for x in range(14, 19)}
