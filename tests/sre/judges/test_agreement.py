from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.judges.agreement import Agreement, agreement
from sre.measure.samples import Failure, Recording, Samples
from sre.readings import ServerCounts

MakeRecording = Callable[..., tuple[Recording, Samples]]
WALL = 1_800_000_000.0


def compare(make: MakeRecording, requests: float, *, failed: Any = (), **counted: Any) -> Agreement:
    """A load of 6,000 requests in 60 s, and what the servers counted around it."""
    server = replace(
        ServerCounts(start=WALL - 10, end=WALL + 70, requests=requests, errors=0.0, p95=None, resets=0, queries=()), **counted
    )
    return agreement(*make(failed=failed), server, scrape_seconds=2.0, resend_seconds=2.0)


@pytest.mark.parametrize("requests", [6000.0, 5945.0, 6055.0])
def test_the_same_count_within_a_hundredth_agrees(make_recording: MakeRecording, requests: float) -> None:
    assert compare(make_recording, requests) == Agreement(agree=True, findings=())


@pytest.mark.parametrize("requests", [5900.0, 6100.0, 3000.0, 12_000.0, 0.0])
def test_another_count_is_a_finding_with_both_numbers(make_recording: MakeRecording, requests: float) -> None:
    found = compare(make_recording, requests)
    assert not found.agree
    assert "the client saw between 6,000 and 6,000 answers" in found.findings[0]
    assert f"{requests:,.0f}" in found.findings[0]


def test_a_span_inside_the_load_is_uncertain_by_one_scrape_at_each_end(make_recording: MakeRecording) -> None:
    # From second 10 to 50 at 100/s: 4,000 requests, and 2 s more or less at each end, 1 % on top.
    inside: dict[str, Any] = {"start": WALL + 10, "end": WALL + 50}
    assert compare(make_recording, 3600.0, **inside).agree
    assert compare(make_recording, 4440.0, **inside).agree
    assert not compare(make_recording, 3540.0, **inside).agree
    assert not compare(make_recording, 4460.0, **inside).agree


def test_what_the_client_gave_up_may_have_been_answered(make_recording: MakeRecording) -> None:
    assert compare(make_recording, 5500.0, failed=range(500)).agree
    assert compare(make_recording, 6000.0, failed=range(500)).agree
    assert not compare(make_recording, 6100.0, failed=range(500)).agree


def test_a_retry_behind_the_ingress_is_counted_twice_by_the_servers(make_recording: MakeRecording) -> None:
    assert not compare(make_recording, 6300.0).agree
    assert compare(make_recording, 6300.0, errors=300.0).agree


def test_a_counter_that_began_again_lost_at_most_a_scrape(make_recording: MakeRecording) -> None:
    assert not compare(make_recording, 5800.0).agree
    assert compare(make_recording, 5800.0, resets=1).agree
    assert not compare(make_recording, 5600.0, resets=1).agree


def test_what_the_ingress_refused_never_reached_a_server(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    samples["status"][:1000], samples["failure"][:1000] = 429, Failure.STATUS
    counted = ServerCounts(start=WALL - 10, end=WALL + 70, requests=5000.0, errors=0.0, p95=None, resets=0, queries=())
    assert agreement(recording, samples, counted, scrape_seconds=2.0, resend_seconds=2.0).agree


def test_errors_of_the_servers_that_they_do_not_admit_are_a_finding(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    samples["status"][:100], samples["failure"][:100] = 500, Failure.STATUS
    counted = ServerCounts(start=WALL - 10, end=WALL + 70, requests=6000.0, errors=100.0, p95=None, resets=0, queries=())
    assert agreement(recording, samples, counted, scrape_seconds=2.0, resend_seconds=2.0).agree
    found = agreement(recording, samples, replace(counted, errors=3.0), scrape_seconds=2.0, resend_seconds=2.0)
    assert found.findings == ("the client saw 100 answers with status 500, the servers counted 3 errors",)


def test_one_source_alone_does_not_agree(make_recording: MakeRecording) -> None:
    found = agreement(*make_recording(), None, scrape_seconds=2.0, resend_seconds=2.0)
    assert not found.agree
    assert "could not be read" in found.findings[0]


@pytest.mark.parametrize(
    "counted",
    [
        {"requests": math.nan},
        {"errors": math.nan},
        {"requests": math.inf},
        {"requests": -1.0},
        {"start": math.nan},
        {"end": math.inf},
    ],
    ids=str,
)
def test_counters_that_are_no_numbers_do_not_agree(make_recording: MakeRecording, counted: dict[str, Any]) -> None:
    found = compare(make_recording, **({"requests": 6000.0} | counted))
    assert not found.agree
    assert "not numbers" in found.findings[0]


@pytest.mark.parametrize(("start", "end"), [(0.0, 20.0), (30.0, 33.0), (100.0, 160.0), (50.0, 10.0)])
def test_counters_of_another_time_do_not_agree(make_recording: MakeRecording, start: float, end: float) -> None:
    found = compare(make_recording, 2000.0, start=WALL + start, end=WALL + end)
    assert not found.agree
    assert "cover" in found.findings[0]


def test_a_client_that_recorded_nothing_does_not_agree(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    counted = ServerCounts(start=WALL, end=WALL + 60, requests=0.0, errors=0.0, p95=None, resets=0, queries=())
    found = agreement(recording, samples[:0], counted, scrape_seconds=2.0, resend_seconds=2.0)
    assert found.findings == ("the client recorded nothing",)


@given(answered=st.integers(0, 6000))
def test_servers_that_counted_nothing_never_agree_with_a_client_that_sent(make_recording: MakeRecording, answered: int) -> None:
    assert not compare(make_recording, 0.0, failed=range(answered, 6000)).agree


def test_requests_that_waited_for_the_ingress_to_try_again_may_be_counted_twice(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    slow = samples.copy()
    slow["done"][:200] = slow["sent"][:200] + 2.1
    counted = ServerCounts(start=WALL - 10, end=WALL + 70, requests=6200.0, errors=0.0, p95=None, resets=0, queries=())
    assert agreement(recording, slow, counted, scrape_seconds=2.0, resend_seconds=2.0).agree
    assert not agreement(recording, samples, counted, scrape_seconds=2.0, resend_seconds=2.0).agree


def test_servers_slower_than_any_user_noticed_do_not_agree(make_recording: MakeRecording) -> None:
    found = compare(make_recording, 6000.0, p95=4.0)
    assert not found.agree
    assert "4000 ms is more than users waited" in found.findings[0]
