import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.measure.confseq import bounded_mean, log_e_proportion, log_rate_ratio, proportion

ALPHA = 0.05
RUNS = 1000
# More misses than this in RUNS runs would happen once in a thousand times at ALPHA.
MOST = ALPHA + 3.1 * math.sqrt(ALPHA * (1.0 - ALPHA) / RUNS)


def test_a_proportion_has_the_published_interval() -> None:
    lower, upper = proportion(700, 1000, alpha=ALPHA, sharpest_at=100)
    assert float(lower) == pytest.approx(0.65163, abs=5e-6)
    assert float(upper) == pytest.approx(0.74595, abs=5e-6)


@settings(max_examples=30, deadline=None)  # a hundred evaluations each
@given(n=st.integers(1, 10**6), share=st.floats(0.0, 1.0))
def test_the_interval_holds_the_mean(n: int, share: float) -> None:
    s = round(share * n)
    lower, upper = proportion(s, n, alpha=ALPHA, sharpest_at=1000)
    assert 0.0 <= lower <= s / n <= upper <= 1.0


def test_a_proportion_is_covered_at_all_looks() -> None:
    rng = np.random.default_rng(50)
    n = 20 * np.arange(1, 101)[:, None]
    for q in (0.01, 0.5):
        s = rng.binomial(20, q, (100, RUNS)).cumsum(axis=0)
        missed = log_e_proportion(s, np.broadcast_to(n, s.shape), q, sharpest_at=500) >= math.log(1.0 / ALPHA)
        assert 0.0 < missed.any(axis=0).mean() < MOST
        lower, upper = proportion(s[::33, :20], n[::33], alpha=ALPHA, sharpest_at=500)
        np.testing.assert_array_equal((lower > q) | (upper < q), missed[::33, :20])


def test_a_rate_ratio_is_covered_at_all_looks() -> None:
    rng = np.random.default_rng(51)
    for ratio in (1.0, 4.0):
        s, f = rng.poisson(0.2 * ratio, (100, RUNS)).cumsum(axis=0), rng.poisson(1.8, (100, RUNS)).cumsum(axis=0)
        lower, upper = log_rate_ratio(s, f, share=0.1, alpha=ALPHA)
        assert ((lower > math.log(ratio)) | (upper < math.log(ratio))).any(axis=0).mean() < MOST
        assert np.median(upper[-1] - lower[-1]) < 2.5


def test_a_rate_ratio_without_events_of_an_arm_is_unbounded_on_that_side() -> None:
    lower, upper = log_rate_ratio([0, 30, 0], [30, 0, 0], share=0.5, alpha=ALPHA)
    assert lower.tolist()[::2] == [-math.inf, -math.inf]
    assert upper.tolist()[1:] == [math.inf, math.inf]
    assert upper[0] < 0.0 < lower[1]


@pytest.mark.parametrize("shape", [(2.0, 5.0), (0.1, 0.4)])
def test_a_bounded_mean_is_covered_at_all_looks(shape: tuple[float, float]) -> None:
    values = np.random.default_rng(52).beta(*shape, (1000, RUNS))
    lower, upper = bounded_mean(values, alpha=ALPHA)
    mean = shape[0] / sum(shape)
    assert ((lower > mean) | (upper < mean)).any(axis=0).mean() < MOST
    assert np.median(upper[-1] - lower[-1]) < 0.15


def test_a_bounded_mean_is_that_of_the_formula() -> None:
    values = [0.2, 0.9, 0.4]
    total, squares, mean, variance, bounds = 0.0, 0.0, 0.5, 0.25, []
    staked = spent = weighted = 0.0
    for t, x in enumerate(values, start=1):
        stake = min(math.sqrt(2.0 * math.log(2.0 / ALPHA) / (variance * t * math.log1p(t))), 0.5)
        staked, weighted = staked + stake, weighted + stake * x
        spent += (x - mean) ** 2 * (-math.log(1.0 - stake) - stake)
        bounds.append((weighted - math.log(2.0 / ALPHA) - spent) / staked)
        total += x
        mean = (0.5 + total) / (t + 1)
        squares += (x - mean) ** 2
        variance = (0.25 + squares) / (t + 1)
    lower, _ = bounded_mean(np.tile(values, 1), alpha=ALPHA)
    np.testing.assert_allclose(lower, np.maximum.accumulate(np.maximum(bounds, 0.0)))
