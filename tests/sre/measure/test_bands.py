import math

import numpy as np
import pytest

from sre.errors import UsageError
from sre.measure.bands import band_constant, band_width, quantile_p, slower_p, stitched


@pytest.mark.parametrize(("alpha", "c"), [(0.05, 8.1227), (0.025, 8.6227), (0.01, 9.2835), (0.005, 9.7834), (0.001, 10.9431)])
def test_the_constant_has_the_published_values(alpha: float, c: float) -> None:
    assert band_constant(alpha) == pytest.approx(c, abs=1e-4)
    assert band_constant(alpha) < 0.8 * math.log(1612.0 / alpha)


def test_the_width_is_that_of_the_formula_and_infinite_before_the_start() -> None:
    widths = band_width([99, 100, 1000], alpha=0.05, start=100)
    assert widths[0] == math.inf
    assert widths[1] == pytest.approx(0.85 * math.sqrt(band_constant(0.05) / 100))
    assert widths[2] == pytest.approx(0.85 * math.sqrt((math.log(1.0 + math.log(10.0)) + band_constant(0.05)) / 1000))


def test_the_smallest_level_that_rejects_is_found() -> None:
    canary, control = [500, 500], [700, 300]
    p = slower_p(canary, control, start=100)
    assert 0.0 < p < 0.05
    assert 2.0 * float(band_width(1000, alpha=p / 2.0, start=100)) == pytest.approx(0.2, rel=1e-6)
    assert slower_p(control, canary, start=100) == 1.0
    assert slower_p(canary, control, start=1001) == 1.0
    assert slower_p([0, 10**6], [10**6, 0], start=100) < 1e-9


def test_two_shifted_arms_have_the_published_p_value() -> None:
    p = quantile_p(np.arange(1, 1001), np.arange(101, 1101), q=0.5, sharpest_at=100)
    assert p == pytest.approx(0.0054947, abs=5e-8)
    assert quantile_p([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], q=0.5, sharpest_at=100) == 1.0


def test_the_stitched_bound_has_the_published_value() -> None:
    assert stitched(0.9, 1000, start=100, alpha=0.05) == pytest.approx(43.7212, abs=5e-5)
    assert stitched(0.01, 1000, start=100, alpha=0.05) > 0.0
    with pytest.raises(UsageError, match="1 is no level"):
        stitched(1.0, 1000, start=100, alpha=0.05)


def test_equal_arms_are_hardly_ever_called_slower() -> None:
    rng = np.random.default_rng(60)
    buckets = np.full(8, 1.0 / 8.0)
    alarms = 0
    for _ in range(200):
        canary, control = (rng.multinomial(100, buckets, size=20).cumsum(axis=0) for _ in range(2))
        alarms += min(slower_p(c, f, start=100) for c, f in zip(canary, control, strict=True)) < 0.05
    assert alarms <= 20
