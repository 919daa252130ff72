from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.judges.availability import availability, none_failed
from sre.measure.samples import Failure, Recording, Samples
from sre.promises import promise
from sre.verdict import Outcome

MakeRecording = Callable[..., tuple[Recording, Samples]]
ERROR_RATE, AVAILABILITY = promise("error-rate"), promise("availability")
BOTH = pytest.mark.parametrize("row", [ERROR_RATE, AVAILABILITY], ids=lambda row: row.id)
RANK = {Outcome.BROKEN: 0, Outcome.INCONCLUSIVE: 1, Outcome.KEPT: 2}


@pytest.mark.parametrize(
    ("failed", "outcome"),
    [(0, Outcome.KEPT), (2, Outcome.INCONCLUSIVE), (5, Outcome.INCONCLUSIVE), (7, Outcome.BROKEN), (6000, Outcome.BROKEN)],
)
@BOTH
def test_two_failures_in_six_thousand_are_already_too_few_requests_to_tell(
    failed: int, outcome: Outcome, row: object, make_recording: MakeRecording
) -> None:
    found = ERROR_RATE if row is ERROR_RATE else AVAILABILITY
    judged = availability(found, *make_recording(failed=range(failed)))
    assert judged.outcome is outcome
    assert judged.why.startswith(f"{failed:,} of 6,000 requests got no prediction")


def test_the_interval_is_the_exact_one(make_recording: MakeRecording) -> None:
    # With no failure in n it ends at 1 - 0.025 ** (1 / n).
    judged = availability(ERROR_RATE, *make_recording())
    assert judged.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / 6000)))
    mirrored = availability(AVAILABILITY, *make_recording())
    assert mirrored.interval == pytest.approx((0.025 ** (1 / 6000), 1.0))


def test_exactly_at_the_bound_an_error_rate_is_broken_and_an_availability_is_not(make_recording: MakeRecording) -> None:
    assert availability(ERROR_RATE, *make_recording(failed=range(6))).outcome is Outcome.BROKEN
    assert availability(AVAILABILITY, *make_recording(failed=range(6))).outcome is Outcome.INCONCLUSIVE


def test_the_unsent_and_the_unanswered_count(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    samples["failure"][:100] = Failure.UNSENT
    samples["failure"][100:200] = Failure.UNANSWERED
    samples["done"][200:210] = float("nan")
    assert availability(ERROR_RATE, recording, samples).measured == pytest.approx(210 / 6000)


def test_a_missing_record_or_an_empty_recording_is_never_kept(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    assert availability(ERROR_RATE, recording, samples[:-1]).outcome is Outcome.INCONCLUSIVE
    assert availability(AVAILABILITY, recording, samples[:0]).outcome is Outcome.INCONCLUSIVE


@given(count=st.integers(0, 30))
def test_one_more_failure_never_improves_the_verdict(make_recording: MakeRecording, count: int) -> None:
    for row in (ERROR_RATE, AVAILABILITY):
        before, after = (availability(row, *make_recording(failed=range(number))).outcome for number in (count, count + 1))
        assert RANK[after] <= RANK[before]


NONE = promise("prediction-availability")


@pytest.mark.parametrize(
    ("failed", "outcome"), [(0, Outcome.KEPT), (1, Outcome.BROKEN), (6000, Outcome.BROKEN)]
)  # fmt: skip
def test_one_failure_is_a_failure(failed: int, outcome: Outcome, make_recording: MakeRecording) -> None:
    judged = none_failed(NONE, *make_recording(failed=range(failed)))
    assert (judged.outcome, judged.measured) == (outcome, failed)
    assert judged.why == f"{failed:,} of 6,000 requests got no prediction"


def test_that_none_failed_takes_enough_requests(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(seconds=9.0)
    assert none_failed(NONE, recording, samples).outcome is Outcome.INCONCLUSIVE
    few = none_failed(NONE, *make_recording(seconds=9.0, failed=[3]))
    assert few.outcome is Outcome.BROKEN


def test_that_none_failed_takes_a_record_of_each(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    judged = none_failed(NONE, recording, samples[1:])
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.why == "the recording holds 5,999 of 6,000 planned requests"
    assert none_failed(NONE, recording, samples[:0]).outcome is Outcome.INCONCLUSIVE
