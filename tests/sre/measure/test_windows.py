from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from sre.measure.samples import Failure, Recording, Samples
from sre.measure.windows import series

MakeRecording = Callable[..., tuple[Recording, Samples]]


def test_each_window_counts_the_requests_planned_in_it(make_recording: MakeRecording) -> None:
    wait = np.where(np.arange(30) < 10, 0.1, 0.2)
    recording, samples = make_recording(rate=10.0, seconds=3.0, wait=wait, failed=[12])
    samples["sent"][29], samples["failure"][29] = math.nan, Failure.UNSENT
    found = series(recording, samples)
    assert found.start == (0.0, 1.0, 2.0)
    assert found.sent == (10, 10, 9)
    assert found.ok == (10, 9, 9)
    assert found.failed == (0, 1, 1)
    assert found.p50 == pytest.approx((0.1, 0.2, 0.2))
    assert found.p99[0] == pytest.approx(0.1)
    assert found.p99[1:] == (None, None)


def test_windows_without_requests_stay_in_their_place(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=10.0, seconds=3.0)
    found = series(recording, samples[(samples["planned"] < 1001) | (samples["planned"] >= 1002)])
    assert found.sent == (10, 0, 10)
    assert found.p95[1] is None


def test_windows_have_the_width_asked_for(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=10.0, seconds=3.0)
    assert series(recording, samples, width=1.5).sent == (15, 15)


def test_nothing_recorded_is_an_empty_series(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(rate=10.0, seconds=3.0)
    assert series(recording, samples[:0]).start == ()


def test_a_series_is_plain_json(make_recording: MakeRecording) -> None:
    found = series(*make_recording(rate=10.0, seconds=2.0, failed=range(20)))
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["failed"] == [10, 10]
