from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.load.schedule import arrivals


@given(st.floats(0.1, 500.0), st.floats(0.1, 20.0), st.integers(0, 2**32))
def test_arrivals_are_ordered_inside_the_span_and_fixed_by_the_seed(rate: float, seconds: float, seed: int) -> None:
    times = arrivals(rate, seconds, seed)
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < seconds))
    np.testing.assert_array_equal(times, arrivals(rate, seconds, seed))


def test_arrivals_are_poisson() -> None:
    times = arrivals(1000.0, 600.0, 1)
    gaps = np.diff(times)
    # Four standard errors: sqrt(600,000) arrivals, and a second moment of the gaps that only the exponential has.
    assert len(times) == pytest.approx(600_000, abs=4 * 775)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.006)


def test_another_seed_gives_another_schedule() -> None:
    assert arrivals(100.0, 10.0, 1)[0] != arrivals(100.0, 10.0, 2)[0]
