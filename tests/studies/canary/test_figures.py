from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from tests.studies.canary.figures import Figure, exact, median, reached, share, times


def test_a_share_and_its_bounds() -> None:
    found = share(100, 10_000)
    assert (found.value, found.n) == (0.01, 10_000)
    assert binom.cdf(100, 10_000, found.high) == pytest.approx(0.01)
    assert binom.sf(99, 10_000, found.low) == pytest.approx(0.01)
    assert share(0, 100).low == 0.0
    assert share(0, 100).high == pytest.approx(1 - 0.01 ** (1 / 100))
    assert share(100, 100).high == 1.0


def test_reached_counts_what_came() -> None:
    assert reached(np.array([3, -1, 5, -1])).value == 0.5


def test_a_median_and_its_bounds_cover_the_truth() -> None:
    rng = np.random.default_rng(5)
    found = [median(rng.exponential(1.0, 101)) for _ in range(2000)]
    assert np.mean([one.high < math.log(2) for one in found]) < 0.015
    assert np.mean([one.low > math.log(2) for one in found]) < 0.015
    assert np.mean([one.high < math.log(2) for one in found]) > 0.001


def test_a_median_of_what_half_did_not_reach_is_infinite() -> None:
    assert times(np.array([2, 4, -1, -1]), 5.0).value == math.inf
    assert times(np.array([2, 4, 6, -1]), 5.0).value == 30.0
    assert times(np.array([2, 4]), 5.0) == Figure(20.0, -math.inf, math.inf, 2)


def test_what_has_no_chance_has_no_bounds() -> None:
    assert exact(3.0) == Figure(3.0, 3.0, 3.0, 1)
