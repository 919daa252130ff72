import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.errors import UsageError
from sre.measure.exchangeable import LEAST_LOOKS, Exchangeable, slower

Ints = npt.NDArray[np.int64]
ALPHA = 0.05
RUNS = 2000
BASE = 0.1  # events a second of an arm: 100 requests a second, one in a thousand fails


def bursts(rng: np.random.Generator, rate: float, mean: int, shape: tuple[int, ...]) -> Ints:
    """Events per interval: a Poisson number of bursts, each of geometric size."""
    n = rng.poisson(rate / mean, shape)
    more: Ints = n if mean == 1 else n + np.where(n > 0, rng.negative_binomial(np.maximum(n, 1), 1.0 / mean, shape), 0)
    return more


def first_crossing(canary: Ints, control: Ints, what: str = "log_e", margin: float = 1.0) -> npt.NDArray[np.float64]:
    """Look at which the evidence of each run first reached 1/alpha; infinite when it never did."""
    process = Exchangeable(margin=margin)
    found = np.full(canary.shape[1], np.inf)
    for look, (c, f) in enumerate(zip(canary, control, strict=True), start=1):
        process.update(c, f)
        found[(getattr(process, what) >= math.log(1.0 / ALPHA)) & np.isinf(found)] = look
    return found


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=20))
def test_swapping_the_arms_of_the_next_interval_is_a_fair_bet(history: list[tuple[int, int]]) -> None:
    after: list[Any] = []
    for pair in ((7, 3), (3, 7)):
        process = Exchangeable()
        for canary, control in history:
            process.update(canary, control)
        before = process.log_e
        process.update(*pair)
        after.append(process.log_e)
    assert 0.5 * sum(np.exp(log_e - before) for log_e in after) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("mean", [1, 2, 5, 20])
def test_false_alarms_stay_below_the_level_whatever_the_bursts(mean: int) -> None:
    rng = np.random.default_rng(30 + mean)
    canary, control = (bursts(rng, 5.0 * BASE, mean, (720, RUNS)) for _ in range(2))
    assert np.isfinite(first_crossing(canary, control)).mean() < ALPHA + 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / RUNS)


def test_intervals_in_which_both_arms_fail_together_are_no_evidence() -> None:
    rng = np.random.default_rng(35)
    outage = np.where(rng.random((720, 1)) < 0.02, 200.0, 0.5) * rng.gamma(2.0, 0.5, (720, RUNS))
    assert np.isfinite(first_crossing(rng.poisson(outage), rng.poisson(outage))).mean() < 0.065


@pytest.mark.parametrize(("ratio", "within_s"), [(5, 150), (2, 900)])
def test_bursts_of_five_are_found_in_time(ratio: int, within_s: int) -> None:
    rng = np.random.default_rng(36)
    seconds = 5
    shape = (within_s // seconds, 1000)
    canary, control = bursts(rng, ratio * BASE * seconds, 5, shape), bursts(rng, BASE * seconds, 5, shape)
    assert np.isfinite(first_crossing(canary, control)).mean() >= 0.5


@pytest.mark.parametrize("margin", [0.5, 1.0])
@pytest.mark.parametrize("mean", [1, 5, 20])
@pytest.mark.parametrize("base", [BASE, 20 * BASE])
def test_promotions_at_the_margin_stay_below_the_level(mean: int, margin: float, base: float) -> None:
    rng = np.random.default_rng(37)
    canary, control = (bursts(rng, base * 5.0 * worse, mean, (240, 1000)) for worse in (1.0 + margin, 1.0))
    assert np.isfinite(first_crossing(canary, control, "log_e_fine", margin)).mean() < ALPHA


def test_a_healthy_canary_is_promoted_and_not_before_enough_looks() -> None:
    rng = np.random.default_rng(38)
    canary, control = (bursts(rng, 5.0, 5, (240, 300)) for _ in range(2))
    found = first_crossing(canary, control, "log_e_fine")
    assert np.isfinite(found).mean() > 0.95
    assert found.min() >= LEAST_LOOKS


def test_dispersion_of_bursts_is_twice_their_mean_less_one() -> None:
    rng = np.random.default_rng(39)
    for mean in (1, 5):
        process = Exchangeable()
        for c, f in zip(*(bursts(rng, 0.5, mean, (5000, 20)) for _ in range(2)), strict=True):
            process.update(c, f)
        assert float(np.mean(process.dispersion)) == pytest.approx(2 * mean - 1, rel=0.1)


def test_a_shift_of_one_bucket_is_tolerated_and_one_of_two_is_not() -> None:
    control = [50, 30, 15, 5, 0]
    canary, lower = slower([0, 50, 30, 15, 5], control)
    np.testing.assert_array_equal(canary, lower)
    canary, lower = slower([0, 0, 50, 30, 20], control)
    assert (canary[:2] > lower[:2]).all()
    with pytest.raises(UsageError, match="leaves no edge of 4"):
        slower(control, control, shift=4)
