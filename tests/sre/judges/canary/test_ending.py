from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sre.judges.canary.ending import ending, requests_lost
from sre.measure.samples import Failure, Recording, Samples
from sre.promises import promise
from sre.verdict import Outcome, Verdict

MakeRecording = Callable[..., tuple[Recording, Samples]]
CANARY, REQUESTS = promise("canary"), promise("canary-requests")


def ended(how: str, *serving: str, expected: str = "rolled back", wanted: str = "1") -> Verdict:
    return ending(CANARY, expected=expected, ended=how, wanted=wanted, serving=serving)


def with_status(made: tuple[Recording, Samples], status: int, count: int) -> tuple[Recording, Samples]:
    """The first so many requests answered with that status."""
    recording, samples = made
    samples["status"][:count], samples["failure"][:count] = status, Failure.STATUS
    return recording, samples


@pytest.mark.parametrize(("how", "wanted"), [("promoted", "2"), ("rolled back", "1")])
def test_an_ending_as_expected_is_kept(how: str, wanted: str) -> None:
    verdict = ended(how, wanted, expected=how, wanted=wanted)
    assert (verdict.outcome, verdict.measured, verdict.n) == (Outcome.KEPT, 0.0, 1)
    assert verdict.why == f"{how}, as it had to be; every replica serves version {wanted}"


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (ended("promoted", "2"), "it was promoted and had to be rolled back; replicas serve version 2 and not 1 alone"),
        (ended("promoted", "1"), "it was promoted and had to be rolled back"),
        (ended("rolled back", "1", expected="promoted", wanted="2"),
         "it was rolled back and had to be promoted; replicas serve version 1 and not 2 alone"),
        (ended("rolled back", "2"), "replicas serve version 2 and not 1 alone"),
        (ended("rolled back", "1", "2"), "replicas serve version 1, 2 and not 1 alone"),
        (ended("rolled back", "1", "ConnectError()"), "replicas serve version 1, ConnectError() and not 1 alone"),
        (ended("promoted", "1", expected="promoted", wanted="2"), "replicas serve version 1 and not 2 alone"),
    ],
    ids=["promoted", "promoted and put back", "rolled back", "left", "left on one", "one is silent", "not taken over"],
)  # fmt: skip
def test_sabotage_an_ending_otherwise_is_broken(verdict: Verdict, why: str) -> None:
    assert (verdict.outcome, verdict.measured, verdict.why) == (Outcome.BROKEN, 1.0, why)


@pytest.mark.parametrize("how", ["inconclusive", "error", "", "PROMOTED", "kept"])
@pytest.mark.parametrize("expected", ["promoted", "rolled back"])
def test_an_ending_that_is_no_decision_is_inconclusive(how: str, expected: str) -> None:
    verdict = ended(how, "1", expected=expected)
    assert (verdict.outcome, verdict.measured, verdict.n) == (Outcome.INCONCLUSIVE, None, 0)
    assert f"it ended {how!r}, and had to be {expected}" in verdict.why


@pytest.mark.parametrize("how", ["promoted", "rolled back"])
def test_replicas_of_which_nobody_knows_what_they_serve_are_no_data(how: str) -> None:
    verdict = ended(how)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "no replica says what it serves" in verdict.why


@pytest.mark.parametrize("by_canary", [None, 0.0, 40.0])
def test_when_everybody_got_a_prediction_nothing_is_lost(make_recording: MakeRecording, by_canary: float | None) -> None:
    verdict = requests_lost(REQUESTS, *make_recording(), by_canary)
    assert (verdict.outcome, verdict.measured, verdict.n) == (Outcome.KEPT, 0.0, 6000)


def test_a_request_that_failed_while_traffic_was_shifted_breaks_it(make_recording: MakeRecording) -> None:
    verdict = requests_lost(REQUESTS, *make_recording(failed=[3000]), 0.0)
    assert (verdict.outcome, verdict.measured) == (Outcome.BROKEN, 1.0)
    assert "1 of 6,000 requests got no prediction, 0 of them by the canary's own failure" in verdict.why


@pytest.mark.parametrize(("counted", "lost"), [(30.0, 0.0), (30.4, 0.0), (45.0, 0.0), (29.0, 1.0), (0.0, 30.0)])
def test_what_the_canary_answered_wrong_itself_is_not_lost_by_the_shift(
    make_recording: MakeRecording, counted: float, lost: float
) -> None:
    verdict = requests_lost(REQUESTS, *with_status(make_recording(), 500, 30), counted)
    assert verdict.measured == lost
    assert verdict.outcome is (Outcome.BROKEN if lost else Outcome.KEPT)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_sabotage_failures_that_a_canary_cannot_have_caused_are_not_counted_off(
    make_recording: MakeRecording, status: int
) -> None:
    verdict = requests_lost(REQUESTS, *with_status(make_recording(), status, 30), 30.0)
    assert (verdict.outcome, verdict.measured) == (Outcome.BROKEN, 30.0)


def test_sabotage_connections_that_broke_hide_behind_a_canary_that_fails(make_recording: MakeRecording) -> None:
    verdict = requests_lost(REQUESTS, *with_status(make_recording(failed=[100, 200]), 500, 30), 1000.0)
    assert (verdict.outcome, verdict.measured) == (Outcome.BROKEN, 2.0)


def test_failures_of_which_nobody_counted_whose_they_are_are_inconclusive(make_recording: MakeRecording) -> None:
    verdict = requests_lost(REQUESTS, *with_status(make_recording(), 500, 30), None)
    assert (verdict.outcome, verdict.measured) == (Outcome.INCONCLUSIVE, None)
    assert "nobody counted the canary's own failures" in verdict.why


def test_requests_that_were_never_sent_or_answered_are_lost(make_recording: MakeRecording) -> None:
    for failure in (Failure.UNSENT, Failure.UNANSWERED):
        recording, samples = make_recording()
        samples["failure"][-1], samples["status"][-1], samples["done"][-1] = failure, 0, np.nan
        assert requests_lost(REQUESTS, recording, samples, 5.0).outcome is Outcome.BROKEN


@pytest.mark.parametrize("made", [{"seconds": 5.0}, {"seconds": 0.0}, {"planned": 7000}], ids=["few", "none", "some are missing"])
def test_too_little_is_never_kept(make_recording: MakeRecording, made: dict[str, Any]) -> None:
    assert requests_lost(REQUESTS, *make_recording(**made), 0.0).outcome is Outcome.INCONCLUSIVE
