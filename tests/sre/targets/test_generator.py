from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import StepFailed
from sre.measure.samples import HEADER_NAME, read
from sre.readings import LoadPlan
from sre.targets.memory import Behaviour, MemoryTarget

PLAN = LoadPlan(rate=100.0, seconds=30.0, seed=3)


def test_a_silent_generator_plans_and_records_nothing(tmp_path: Path) -> None:
    target = MemoryTarget(Behaviour(generator="silent"))
    load = target.start_load(PLAN, tmp_path)
    assert load.running()
    target.clock.sleep(5.0)
    assert load.progress() == "0 requests, 0 failed"
    load.stop()
    recording, samples = read(tmp_path)
    assert len(samples) == 0 < recording.planned


def test_a_dead_generator_leaves_no_recording(tmp_path: Path) -> None:
    load = MemoryTarget(Behaviour(generator="dead")).start_load(PLAN, tmp_path)
    assert not load.running()
    for end in (load.stop, load.wait):
        with pytest.raises(StepFailed, match="died without a recording"):
            end()
    assert not (tmp_path / HEADER_NAME).exists()


def test_a_load_that_is_stopped_waits_for_the_answers_under_way(tmp_path: Path) -> None:
    target = MemoryTarget(Behaviour(service_s=1.0))
    load = target.start_load(PLAN, tmp_path)
    target.clock.sleep(10.0)
    assert load.progress() != "0 requests, 0 failed"
    load.stop()
    recording, samples = read(tmp_path)
    assert recording.stopped
    assert recording.planned == len(samples) < 1200
    assert samples["planned"].max() <= recording.started + 10.0
    assert recording.ended == samples["done"].max() > recording.started + 10.0


def test_a_load_runs_until_its_last_answer(tmp_path: Path) -> None:
    target = MemoryTarget(Behaviour(service_s=1.0))
    load = target.start_load(PLAN, tmp_path)
    target.clock.sleep(PLAN.seconds)
    assert load.running()
    target.clock.sleep(10.0)
    assert not load.running()
    assert not (tmp_path / HEADER_NAME).exists()
    load.stop()
    assert not read(tmp_path)[0].stopped


def test_its_span_ends_with_its_plan_or_when_it_is_stopped(tmp_path: Path) -> None:
    target = MemoryTarget()
    target.start_load(PLAN, tmp_path).wait()
    assert target.scale().wanted == 4
    stopped = MemoryTarget()
    load = stopped.start_load(PLAN, tmp_path)
    stopped.clock.sleep(10.0)
    load.stop()
    stopped.clock.sleep(100.0)
    assert stopped.scale().wanted == 3
