from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.units import Comparison, Unit
from sre.verdict import Outcome, Verdict, combine

OUTCOMES = st.lists(st.sampled_from(Outcome), min_size=1)


def make_verdict(measured: float | None) -> Verdict:
    return Verdict(
        promise="pod-recovery", outcome=Outcome.KEPT, measured=measured, bound=30.0, comparison=Comparison.BELOW,
        unit=Unit.SECONDS, n=1, interval=None, why="full service after 6.4 s",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "line"), [(6.31, "6.4 s of 30 s"), (None, "no data of 30 s"), (math.inf, "never of 30 s")], ids=str
)
def test_the_line_sets_the_value_against_its_bound(measured: float | None, line: str) -> None:
    assert make_verdict(measured).line() == line


def test_nothing_judged_is_inconclusive() -> None:
    assert combine([]) is Outcome.INCONCLUSIVE


def test_a_measured_breach_outranks_an_error_and_an_error_a_lack_of_data() -> None:
    order = [Outcome.BROKEN, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.KEPT]
    for first, second in itertools.combinations(order, 2):
        assert combine([second, first]) is combine([first, second]) is first


@given(OUTCOMES)
def test_a_whole_is_kept_only_when_every_part_is(outcomes: list[Outcome]) -> None:
    assert (combine(outcomes) is Outcome.KEPT) == (set(outcomes) == {Outcome.KEPT})


@given(OUTCOMES, OUTCOMES)
def test_combining_in_groups_changes_nothing(left: list[Outcome], right: list[Outcome]) -> None:
    assert combine([combine(left), combine(right)]) is combine(left + right)


def test_outcomes_and_exit_codes_say_the_same() -> None:
    assert {outcome.value: outcome.exit_code.value for outcome in Outcome} == {
        "kept": 0,
        "broken": 1,
        "inconclusive": 3,
        "error": 4,
    }
