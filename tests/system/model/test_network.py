from __future__ import annotations

import numpy as np
import torch

from system.model.network import ResNet8

MEAN = np.array([120, 110, 100], np.float32)
STD = np.array([60, 61, 62], np.float32)


def network() -> ResNet8:
    torch.manual_seed(7)
    made = ResNet8(MEAN, STD)
    made.train()
    made(images(64))  # so that the running means of BatchNorm are not those of a network that saw nothing
    made.eval()
    return made


def images(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))


def test_it_has_the_size_of_the_benchmark() -> None:
    assert sum(parameter.numel() for parameter in ResNet8(MEAN, STD).parameters()) == 77_946


def test_it_maps_pixels_to_ten_logits() -> None:
    logits = network()(images(5))
    assert (logits.shape, logits.dtype) == ((5, 10), torch.float32)


def test_normalisation_inside_is_normalisation_before() -> None:
    inside, outside = network(), network()
    outside.mean.zero_()
    outside.std.fill_(1)
    pixels = images(4)
    normalised = (pixels.float() - torch.from_numpy(MEAN)) / torch.from_numpy(STD)
    torch.testing.assert_close(inside(pixels), outside(normalised), atol=1e-5, rtol=1e-5)


def test_folding_changes_neither_the_answers_nor_the_network() -> None:
    made = network()
    made.train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    folded = made.folded()
    assert made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    made.eval()
    torch.testing.assert_close(folded(images(4)), made(images(4)), atol=1e-5, rtol=1e-5)
