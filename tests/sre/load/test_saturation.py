from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from sre.load.saturation import saturation
from sre.measure.samples import Failure, Recording, Samples

MakeRecording = Callable[..., tuple[Recording, Samples]]


def test_a_generator_with_room_to_spare_leaves_nothing_to_say(make_recording: MakeRecording) -> None:
    assert saturation(*make_recording()) == ()


@pytest.mark.parametrize(("cpu", "words"), [(48.1, "80% of a core"), (66.0, "110% of a core"), (math.nan, "nan% of a core")])
def test_a_busy_core_is_found(make_recording: MakeRecording, cpu: float, words: str) -> None:
    (finding,) = saturation(*make_recording(cpu_seconds=cpu))
    assert words in finding


def test_six_in_six_thousand_may_leave_late_and_seven_not(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    samples["sent"][:6] += 0.06
    assert saturation(recording, samples) == ()
    samples["sent"][6] += 0.06
    assert saturation(recording, samples) == ("7 of 6,000 requests left more than 50 ms late, above 0.1 %",)


def test_one_request_never_sent_is_found(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    samples["sent"][5], samples["failure"][5] = math.nan, Failure.UNSENT
    assert saturation(recording, samples) == ("1 planned requests were never sent",)


def test_a_missing_record_is_found(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    assert saturation(recording, samples[1:]) == ("the load generator recorded 5,999 of 6,000 planned requests",)


def test_a_schedule_cut_short_is_found_unless_the_drill_ends_it(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    stopped = replace(recording, seconds=600.0, stopped=True)
    assert saturation(stopped, samples) == ("the load was stopped before its 600 s were over",)
    assert saturation(stopped, samples, may_stop=True) == ()


def test_a_stopped_load_is_measured_against_the_time_it_ran(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    stopped = replace(recording, seconds=600.0, stopped=True, cpu_seconds=55.0)
    (finding,) = saturation(stopped, samples, may_stop=True)
    assert "92% of a core" in finding


def test_nothing_sent_is_found(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    assert saturation(replace(recording, planned=0), samples[:0]) == ("the load generator sent nothing",)
