from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.measure.recovery import Observation, full_service, impact
from sre.measure.samples import Failure, Recording, Samples

MakeRecording = Callable[..., tuple[Recording, Samples]]
FAULT = 100.0


def recovered(ready: list[int], held: float = 3.0, every: float = 1.0, replicas: int = 3) -> float | None:
    """What is found when the replicas are looked at regularly from the fault on."""
    looks = [Observation(FAULT + number * every, count) for number, count in enumerate(ready)]
    return full_service(looks, fault=FAULT, replicas=replicas, held=held, longest_gap=2.0)


def test_recovery_is_the_start_of_the_span_that_held() -> None:
    assert recovered([2, 2, 2, 3, 3, 3, 3]) == 3.0


def test_a_return_that_did_not_hold_is_no_recovery() -> None:
    assert recovered([2, 3, 3, 2, 3, 3, 3, 3]) == 4.0


def test_a_span_that_was_not_watched_to_its_end_is_no_recovery() -> None:
    assert recovered([2, 2, 3, 3, 3]) is None


def test_full_service_before_the_fault_does_not_count() -> None:
    looks = [Observation(FAULT - 10 + number, 3) for number in range(10)] + [Observation(FAULT + 1, 2)]
    assert full_service(looks, fault=FAULT, replicas=3, held=3.0, longest_gap=2.0) is None


def test_looking_away_proves_nothing_about_the_time_between() -> None:
    looks = [Observation(FAULT + at, 3) for at in (1, 2, 8, 9, 10, 11)]
    assert full_service(looks, fault=FAULT, replicas=3, held=3.0, longest_gap=2.0) == 8.0


@pytest.mark.parametrize("replicas", [0, 1])
def test_nothing_ready_is_never_full_service(replicas: int) -> None:
    assert recovered([0] * 20, replicas=replicas) is None


def test_no_observation_is_no_recovery() -> None:
    assert recovered([]) is None


@given(st.lists(st.integers(0, 3), max_size=30), st.data())
def test_a_replica_less_at_any_time_never_makes_recovery_earlier(ready: list[int], data: st.DataObject) -> None:
    before = recovered(ready)
    if not ready:
        return
    index = data.draw(st.integers(0, len(ready) - 1))
    after = recovered([*ready[:index], max(0, ready[index] - 1), *ready[index + 1 :]])
    assert (math.inf if after is None else after) >= (math.inf if before is None else before)


def test_impact_counts_those_under_way_at_the_fault_and_those_after(make_recording: MakeRecording) -> None:
    # Planned at 1000.0, 1000.5, ... and answered 0.7 s later: at 1002.0 only the one planned at 1001.5 is under way.
    _, samples = make_recording(rate=2.0, seconds=10.0, wait=0.7, failed=[3, 4, 5, 19])
    found = impact(samples, fault=1002.0, end=1005.0)
    assert (found.requests, found.failed) == (7, 3)
    assert found.first_success == pytest.approx(1.7)


def test_impact_without_any_success(make_recording: MakeRecording) -> None:
    _, samples = make_recording(rate=2.0, seconds=10.0, failed=range(20))
    assert impact(samples, fault=1002.0, end=1010.0).first_success is None


def test_whoever_was_never_answered_counts(make_recording: MakeRecording) -> None:
    _, samples = make_recording(rate=2.0, seconds=4.0)
    samples["done"][0], samples["failure"][0] = math.nan, Failure.UNANSWERED
    assert impact(samples, fault=1002.0, end=1004.0).failed == 1
