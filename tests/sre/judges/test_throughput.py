from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sre.judges.throughput import throughput
from sre.measure.samples import Failure, Recording, Samples
from sre.promises import promise
from sre.verdict import Outcome

MakeRecording = Callable[..., tuple[Recording, Samples]]
PROMISE = promise("throughput")


def test_more_predictions_than_promised_keep_it(make_recording: MakeRecording) -> None:
    judged = throughput(PROMISE, *make_recording(rate=1050.0))
    assert judged.outcome is Outcome.KEPT
    assert judged.measured == pytest.approx(1050.0, abs=1)
    assert judged.interval is not None
    assert judged.interval[0] >= 1000


def test_failures_are_not_predictions(make_recording: MakeRecording) -> None:
    judged = throughput(PROMISE, *make_recording(rate=1050.0, failed=range(0, 63_000, 10)))
    assert judged.outcome is Outcome.BROKEN
    assert judged.measured == pytest.approx(945.0, abs=1)


def test_a_backlog_answered_after_the_load_is_not_sustained_throughput(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=1050.0, wait=np.where(np.arange(63_000) < 53_000, 0.02, 20.0))
    assert throughput(PROMISE, recording, samples).outcome is Outcome.BROKEN


def test_a_service_that_stood_still_for_seconds_is_inconclusive_at_best(make_recording: MakeRecording) -> None:
    # The mean of 1,011/s would keep the promise; that it hangs on which seconds one looks at is what the interval says.
    recording, samples = make_recording(rate=1050.0)
    samples["failure"][20_000:22_300] = Failure.TIMEOUT
    judged = throughput(PROMISE, recording, samples)
    assert judged.measured is not None
    assert judged.measured > 1000
    assert judged.outcome is Outcome.INCONCLUSIVE


def test_a_stopped_load_is_judged_on_the_time_it_ran(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=1050.0, seconds=30.0)
    judged = throughput(PROMISE, replace(recording, seconds=600.0, ended=1030.1, stopped=True), samples)
    assert judged.outcome is Outcome.KEPT


def test_the_warm_up_does_not_count(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=1050.0)
    samples["failure"][:10_000] = Failure.CONNECT
    assert throughput(PROMISE, recording, samples).outcome is Outcome.BROKEN
    assert throughput(PROMISE, recording, samples, warm_up=10.0).outcome is Outcome.KEPT


def test_a_warm_up_longer_than_the_load_leaves_nothing_to_judge(make_recording: MakeRecording) -> None:
    assert throughput(PROMISE, *make_recording(rate=1050.0), warm_up=90.0).outcome is Outcome.INCONCLUSIVE


def test_nothing_answered_is_never_kept(make_recording: MakeRecording) -> None:
    assert throughput(PROMISE, *make_recording(rate=1050.0, failed=range(63_000))).outcome is not Outcome.KEPT


def test_a_missing_record_is_never_kept(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=1050.0)
    assert throughput(PROMISE, recording, samples[1:]).outcome is Outcome.INCONCLUSIVE
