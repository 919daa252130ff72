from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from sre.measure.proportion import at_most


@pytest.mark.parametrize("n", [1, 6, 59, 300])
def test_of_what_never_happened_the_bound_is_the_rule_of_three(n: int) -> None:
    assert at_most(0, n) == pytest.approx(1 - 0.05 ** (1 / n))


def test_300_schedules_show_one_per_cent_and_298_do_not() -> None:
    assert at_most(0, 300) < 0.01 < at_most(0, 298)
    assert 1 - at_most(0, 59) > 0.95 > 1 - at_most(0, 58)


def test_nothing_tried_shows_nothing() -> None:
    assert at_most(0, 0) == 1.0


@given(st.integers(1, 500), st.data())
def test_at_the_bound_so_few_are_found_in_one_case_of_twenty(n: int, data: st.DataObject) -> None:
    found = data.draw(st.integers(0, n - 1))
    assert binom.cdf(found, n, at_most(found, n)) == pytest.approx(0.05)
    assert at_most(n, n) == 1.0
