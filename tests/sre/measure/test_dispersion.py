import numpy as np
import numpy.typing as npt
import pytest

from sre.errors import UsageError
from sre.measure.dispersion import Dispersion


def measured(canary: npt.NDArray[np.int64], control: npt.NDArray[np.int64], share: float = 0.5) -> Dispersion:
    dispersion = Dispersion(share=share)
    for c, f in zip(canary.tolist(), control.tolist(), strict=True):
        dispersion.update(c, f)
    return dispersion


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_events_that_come_one_by_one_have_an_index_of_one(share: float) -> None:
    rng = np.random.default_rng(70)
    traffic = 5.0 + 4.5 * np.sin(np.arange(20_000) / 500.0)
    shared = np.where(rng.random(20_000) < 0.01, 30.0, 1.0)
    found = measured(rng.poisson(traffic * shared * share), rng.poisson(traffic * shared * (1.0 - share)), share)
    assert found.index == pytest.approx(1.0, abs=0.1)
    assert found.at_least < 1.0


def test_a_canary_that_becomes_worse_is_not_taken_for_bursts() -> None:
    rng = np.random.default_rng(71)
    found = measured(rng.poisson(np.repeat([1.0, 10.0], 1000)), rng.poisson(np.ones(2000)))
    assert found.index == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("interval", [2, 3, 4, 5, 10, 11])
def test_a_sudden_change_within_a_pair_contradicts_nothing_at_any_look(interval: int) -> None:
    rng = np.random.default_rng(74)
    dispersion = Dispersion(share=0.1)
    highest, indices = 0.0, []
    for i in range(60):
        dispersion.update(int(rng.poisson(10_000 if i >= interval else 1000)), int(rng.poisson(9000)))
        highest = max(highest, dispersion.at_least)
        indices.append(dispersion.index or 0.0)
    if interval % 2:
        assert max(indices) > 100.0  # the change did come within a pair
    assert highest < 1.5


@pytest.mark.parametrize("mean", [5, 20])
def test_bursts_are_found(mean: int) -> None:
    rng = np.random.default_rng(72)
    numbers = rng.poisson(0.5, (2, 4000))
    sizes = numbers + np.where(numbers > 0, rng.negative_binomial(np.maximum(numbers, 1), 1.0 / mean), 0)
    found = measured(*sizes)
    assert found.index is not None
    assert found.index > mean
    assert 1.5 < found.at_least < found.index


def test_a_false_contradiction_at_any_look_is_rare() -> None:
    rng = np.random.default_rng(73)
    contradicted = 0
    for _ in range(100):
        dispersion = Dispersion(share=0.5)
        for c, f in rng.poisson(2.0, (200, 2)).tolist():
            dispersion.update(c, f)
            if dispersion.at_least > 1.5:
                contradicted += 1
                break
    assert contradicted <= 2


def test_without_pairs_nothing_is_claimed() -> None:
    dispersion = Dispersion(share=0.5)
    dispersion.update(9, 0)
    assert dispersion.index is None
    assert dispersion.at_least == 0.0
    for _ in range(10):
        dispersion.update(10, 0)
    assert dispersion.pairs == 0
    with pytest.raises(UsageError, match="strictly between"):
        Dispersion(share=1.0)
