"""Fit: the weights, by stochastic gradient descent on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from system.config import TrainSettings
from system.model.transform import Pixels
from system.training.features import Features, Part

if TYPE_CHECKING:
    from system.model.network import ResNet8

_MOMENTUM = 0.9
_WEIGHT_DECAY = 5e-4
_WARM_UP = 0.2  # share of the steps in which the learning rate rises
_SHIFT = 2  # pixels by which a training image is moved at most, so that the network learns shapes and not places
_PAPER = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """How one pass over the training images went.

    Attributes:
        number: from 1.
        loss: mean cross entropy over the training images.
        accuracy: on the validation images, 0 to 1.
    """

    number: int
    loss: float
    accuracy: float


def fit(data: Features, settings: TrainSettings, told: Callable[[Epoch], None]) -> ResNet8:
    """Train a network; the epoch with the best validation accuracy wins, the later one of equals.

    Args:
        data: the parts; the test part is not touched.
        settings: seed, epochs, batch size, highest learning rate.
        told: hears of every epoch.
    """
    import torch  # noqa: PLC0415 - takes seconds, and only this step needs it
    from torch.nn import functional  # noqa: PLC0415

    from system.model.network import ResNet8  # noqa: PLC0415

    # One thread: sums are then in one order, so a seed gives the same weights whatever the number of cores; two threads are 1.4
    # times faster on an idle machine of two cores, and slower on a busy one, where each waits for the other.
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = ResNet8(data.mean, data.std)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks what its manual has
    optimiser = torch.optim.SGD(
        network.parameters(), settings.learning_rate, _MOMENTUM, weight_decay=_WEIGHT_DECAY, nesterov=True
    )
    steps = -(-len(data.train.labels) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, epochs=settings.epochs, steps_per_epoch=steps, pct_start=_WARM_UP
    )
    best, best_accuracy = network.state_dict(), -1.0
    for number in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(data.train.labels)), steps):
            images = torch.from_numpy(_moved(data.train.images[chosen], rng))
            loss = functional.cross_entropy(network(images), torch.from_numpy(data.train.labels[chosen]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item() * len(chosen)
        accuracy = _accuracy(network, data.validation)
        if accuracy >= best_accuracy:
            best, best_accuracy = copy.deepcopy(network.state_dict()), accuracy
        told(Epoch(number=number, loss=total / len(data.train.labels), accuracy=accuracy))
    network.load_state_dict(best)
    network.eval()
    return network


def _accuracy(network: ResNet8, part: Part) -> float:
    """Share of a part's images, 0 to 1, that get their own label."""
    import torch  # noqa: PLC0415 - see fit

    network.eval()
    with torch.inference_mode():
        found = network(torch.from_numpy(part.images)).argmax(dim=1).numpy()
    return float((found == part.labels).mean())


def _moved(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Each image of uint8 (n, 32, 32, 3) moved by up to `_SHIFT` pixels both ways, with white paper where it came from."""
    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), constant_values=_PAPER)
    moves: npt.NDArray[np.int64] = rng.integers(0, 2 * _SHIFT + 1, size=(len(images), 2))
    return np.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(padded, moves, strict=True)])
