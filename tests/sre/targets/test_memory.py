from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sre.errors import StepFailed
from sre.measure.quantiles import answered, latencies, quantile
from sre.measure.samples import Failure, Recording, Samples, read
from sre.readings import LoadPlan, ServerCounts
from sre.targets.base import Observers, Target
from sre.targets.memory import ALERT, RUNBOOK, Behaviour, MemoryTarget

PLAN = LoadPlan(rate=100.0, seconds=30.0, seed=3)


def play(target: MemoryTarget, folder: Path, *, kill_at: float | None = None) -> tuple[Recording, Samples, ServerCounts | None]:
    """A whole load, perhaps with a kill in it, and what the servers counted."""
    start = target.clock.wall()
    load = target.start_load(PLAN, folder)
    if kill_at is not None:
        target.clock.sleep(kill_at)
        target.kill("serving-2")
    load.wait()
    target.clock.sleep(target.settle_s)
    return *read(folder), target.server_counts(start, target.clock.wall())


def test_one_object_is_target_and_observers() -> None:
    target = MemoryTarget()
    as_target: Target = target
    as_observers: Observers = target
    assert as_target.clock is target.clock
    assert as_observers.settle_s == 4.0
    assert target.name == "memory"
    assert target.handle is None


def test_the_same_calls_give_the_same_bytes(tmp_path: Path) -> None:
    recordings = []
    for name in ("a", "b"):
        play(MemoryTarget(), tmp_path / name, kill_at=10.0)
        recordings.append([(tmp_path / name / file).read_bytes() for file in ("samples.bin", "samples.json")])
    assert recordings[0] == recordings[1]


def test_a_replica_is_gone_then_starting_then_ready() -> None:
    target = MemoryTarget(Behaviour(restart_s=2.0, startup_s=3.0))
    target.kill("serving-2")
    assert (target.replicas()[1].identity, target.replicas()[1].restarts) == ("", 0)
    target.clock.sleep(2.0)
    starting = target.replicas()[1]
    assert (starting.identity, starting.ready, starting.restarts) == ("202@1002.000", False, 1)
    target.clock.sleep(3.0)
    assert target.replicas()[1].ready


@pytest.mark.parametrize("change", ["kill", "pause", "resume"])
def test_a_replica_without_a_process_cannot_be_changed(change: str) -> None:
    target = MemoryTarget()
    target.kill("serving-2")
    with pytest.raises(StepFailed, match="serving-2 has no process just now"):
        getattr(target, change)("serving-2")


def test_a_frozen_replica_can_be_killed_and_its_successor_is_not_frozen() -> None:
    target = MemoryTarget()
    target.pause("serving-2")
    target.kill("serving-2")
    target.clock.sleep(5.0)
    assert target.replicas()[1].ready


def test_faults_can_be_without_effect() -> None:
    target = MemoryTarget(Behaviour(faults_work=False))
    before = target.replicas()
    target.kill("serving-1")
    target.pause("serving-2")
    assert target.replicas() == before


def test_a_load_without_faults_is_answered_and_counted_to_the_last_request(tmp_path: Path) -> None:
    recording, samples, counts = play(MemoryTarget(), tmp_path)
    assert answered(samples).all()
    assert recording.tool == "memory"
    assert recording.planned == len(samples) == pytest.approx(3000, abs=200)
    assert counts is not None
    assert (counts.requests, counts.errors, counts.resets) == (len(samples), 0.0, 0)
    assert counts.p95 == pytest.approx(quantile(latencies(samples), 0.95), abs=0.001)


def test_the_rate_and_the_mean_answer_time_are_those_of_plan_and_behaviour(tmp_path: Path) -> None:
    _, samples, _ = play(MemoryTarget(Behaviour(service_s=0.2)), tmp_path)
    assert np.mean(samples["done"] - samples["sent"]) == pytest.approx(0.2, rel=0.05)


def test_a_kill_loses_what_was_not_scraped_yet_and_shows_as_a_reset(tmp_path: Path) -> None:
    _, samples, counts = play(MemoryTarget(), tmp_path, kill_at=10.5)
    assert answered(samples).all()
    assert counts is not None
    assert counts.resets == 1
    assert 0 < len(samples) - counts.requests <= PLAN.rate * 2.0


def test_a_kill_of_the_only_replica_fails_requests_until_it_is_back(tmp_path: Path) -> None:
    target = MemoryTarget(Behaviour(replicas=1))
    start = target.clock.now()
    load = target.start_load(PLAN, tmp_path)
    target.clock.sleep(10.0)
    target.kill("serving-1")
    load.wait()
    _, samples = read(tmp_path)
    failed = samples[~answered(samples)]
    assert set(failed["status"]) == {502}
    assert set(failed["failure"]) == {Failure.STATUS}
    # From the kill, one answer time early, to ready five seconds later.
    assert start + 9.9 < failed["planned"].min() < start + 10.1
    assert start + 14.8 < failed["planned"].max() < start + 15.0


def test_a_pause_makes_users_wait_for_the_ingress_to_ask_another(tmp_path: Path) -> None:
    target = MemoryTarget()
    load = target.start_load(PLAN, tmp_path)
    target.clock.sleep(10.0)
    target.pause("serving-2")
    target.clock.sleep(10.0)
    target.resume("serving-2")
    load.wait()
    _, samples = read(tmp_path)
    waits = latencies(samples)
    assert answered(samples).all()
    assert np.mean(waits > target.resend_s) == pytest.approx(1 / 9, abs=0.03)


def test_a_share_of_the_answers_can_fail_and_is_counted_as_errors(tmp_path: Path) -> None:
    _, samples, counts = play(MemoryTarget(Behaviour(failing=0.1)), tmp_path)
    failed = int(np.count_nonzero(samples["status"] == 500))
    assert failed == pytest.approx(300, abs=60)
    assert counts is not None
    assert (counts.errors, counts.requests) == (failed, len(samples))


def test_requests_that_no_replica_answers_in_time_are_the_ingresses(tmp_path: Path) -> None:
    _, samples, counts = play(MemoryTarget(Behaviour(service_s=60.0)), tmp_path)
    assert set(samples["status"]) == {502}
    assert counts is not None
    assert counts.requests == 0.0
    assert counts.p95 is None


@pytest.mark.parametrize(
    ("behaviour", "field", "expected"),
    [({"late_s": 0.1}, "late", 0.1), ({"late_s": 0.0}, "late", 0.0), ({"cpu": 0.9}, "cpu", 0.9)],
)
def test_a_generator_can_be_the_bottleneck(tmp_path: Path, behaviour: dict[str, Any], field: str, expected: float) -> None:
    recording, samples, _ = play(MemoryTarget(Behaviour(**behaviour)), tmp_path)
    measured = {"late": np.max(samples["sent"] - samples["planned"]), "cpu": recording.cpu_seconds / recording.seconds}
    assert measured[field] == pytest.approx(expected)


@pytest.mark.parametrize("behaviour", [{"prometheus": False}, {"metric": False}, {"replicas": 0}])
def test_counters_can_be_absent(behaviour: dict[str, Any]) -> None:
    target = MemoryTarget(Behaviour(**behaviour))
    assert target.server_counts(target.clock.wall() - 60.0, target.clock.wall()) is None


def test_counters_can_differ_from_what_users_saw(tmp_path: Path) -> None:
    _, samples, counts = play(MemoryTarget(Behaviour(counted=0.5)), tmp_path)
    assert counts is not None
    assert counts.requests == len(samples) / 2


@pytest.mark.parametrize(("behaviour", "status"), [({}, 200), ({"failing": 1.0}, 500), ({"replicas": 0}, 502)])
def test_a_user_sees_what_the_system_does(behaviour: dict[str, Any], status: int) -> None:
    assert MemoryTarget(Behaviour(**behaviour)).user_probe()[0] == status


def test_a_users_probe_is_counted_like_any_request() -> None:
    target = MemoryTarget()
    start = target.clock.wall()
    target.user_probe()
    target.clock.sleep(target.settle_s)
    counts = target.server_counts(start, target.clock.wall())
    assert counts is not None
    assert counts.requests == 1


def test_an_alert_fires_after_its_wait_and_resolves_after_the_repair() -> None:
    target = MemoryTarget()
    began = target.clock.wall()
    target.pause("serving-2")
    target.clock.sleep(12.9)
    assert target.alerts() == ()
    target.clock.sleep(0.2)
    (alert,) = target.alerts() or ()
    assert (alert.name, alert.active, alert.runbook_url) == (ALERT, True, RUNBOOK)
    assert alert.starts_at == pytest.approx(began + 13.0)
    target.resume("serving-2")
    target.clock.sleep(2.9)
    assert target.alerts() == (alert,)
    target.clock.sleep(0.2)
    assert target.alerts() == ()


def test_an_outage_shorter_than_the_wait_raises_nothing() -> None:
    target = MemoryTarget()
    target.kill("serving-2")
    for _ in range(30):
        target.clock.sleep(1.0)
        assert target.alerts() == ()


@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [
        ({"alertmanager": False}, None),
        ({"prometheus": False}, ()),
        ({"alert_for_s": math.inf}, ()),
        ({"others": ("HighLatency",)}, (ALERT, "HighLatency")),
    ],
)
def test_alerting_can_fail_in_several_ways(behaviour: dict[str, Any], seen: tuple[str, ...] | None) -> None:
    target = MemoryTarget(Behaviour(**behaviour))
    target.pause("serving-2")
    target.clock.sleep(60.0)
    held = target.alerts()
    assert (held if held is None else tuple(alert.name for alert in held)) == seen


def test_an_alert_can_stay_for_ever() -> None:
    target = MemoryTarget(Behaviour(alert_resolves=False))
    target.pause("serving-2")
    target.clock.sleep(60.0)
    target.resume("serving-2")
    target.clock.sleep(3600.0)
    assert len(target.alerts() or ()) == 1


def test_a_replica_can_stay_away_for_ever() -> None:
    target = MemoryTarget(Behaviour(startup_s=math.inf))
    target.kill("serving-2")
    target.clock.sleep(86_400.0)
    assert not target.replicas()[1].ready
    assert len(target.alerts() or ()) == 1
