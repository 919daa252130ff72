from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.judges.recovery import recovery
from sre.promises import promise
from sre.verdict import Outcome

PROMISE = promise("pod-recovery")
TIMES = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf])


@pytest.mark.parametrize(
    ("seconds", "watched", "outcome"),
    [
        (6.4, 20.0, Outcome.KEPT),
        (30.0, 60.0, Outcome.BROKEN),
        (45.0, 60.0, Outcome.BROKEN),
        (None, 30.0, Outcome.BROKEN),
        (None, 29.9, Outcome.INCONCLUSIVE),
        (None, math.nan, Outcome.INCONCLUSIVE),
        (math.nan, 60.0, Outcome.INCONCLUSIVE),
        (math.inf, 60.0, Outcome.INCONCLUSIVE),
        (-0.5, 60.0, Outcome.INCONCLUSIVE),
    ],
)
def test_what_was_seen_or_not_seen_decides(seconds: float | None, watched: float, outcome: Outcome) -> None:
    assert recovery(PROMISE, seconds, watched=watched, event="full service").outcome is outcome


def test_the_sentence_names_event_and_time() -> None:
    assert recovery(PROMISE, 6.31, watched=20.0, event="full service").why == "full service after 6.4 s"
    never = recovery(PROMISE, None, watched=45.0, event="full service")
    assert never.why == "full service was not seen in 45.0 s"
    assert never.line() == "never of 30 s"


def test_a_look_before_the_event_makes_an_interval() -> None:
    assert recovery(PROMISE, 6.3, watched=20.0, event="x", since=5.9).interval == (5.9, 6.3)
    assert recovery(PROMISE, 6.3, watched=20.0, event="x").interval is None
    assert recovery(PROMISE, None, watched=45.0, event="x", since=5.9).interval is None


@given(st.none() | TIMES, TIMES)
def test_kept_needs_a_time_below_the_bound(seconds: float | None, watched: float) -> None:
    judged = recovery(PROMISE, seconds, watched=watched, event="full service")
    if judged.outcome is Outcome.KEPT:
        assert seconds is not None
        assert 0 <= seconds < 30
