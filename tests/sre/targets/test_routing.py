from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sre.errors import StepFailed
from sre.measure.quantiles import answered
from sre.measure.samples import read
from sre.readings import LoadPlan
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.routing import BEGIN_WITHIN_S, CANARY, CONTROL

PLAN = LoadPlan(rate=200.0, seconds=50.0, seed=5)


def begun(**behaviour: object) -> MemoryTarget:
    target = MemoryTarget(Behaviour(**behaviour))  # type: ignore[arg-type]
    target.router.begin("2")
    return target


def statuses(target: MemoryTarget, folder: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    target.start_load(PLAN, folder).wait()
    _, samples = read(folder)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = samples["status"]
    return found


def test_each_arm_gets_its_share_and_the_same_requests_every_time() -> None:
    sent = np.sort(np.random.default_rng(2).uniform(2000.0, 3000.0, 100_000))
    chosen = []
    for _ in range(2):
        target = begun()
        target.router.shift(0.3, 0.1)
        chosen.append(target.router.chosen(sent))
    assert (chosen[0] == chosen[1]).all()
    # Five standard deviations of a share of 100 000 requests drawn by chance.
    assert np.mean(chosen[0] == CANARY) == pytest.approx(0.3, abs=0.008)
    assert np.mean(chosen[0] == CONTROL) == pytest.approx(0.1, abs=0.005)


def test_a_shift_changes_only_what_is_sent_after_it() -> None:
    target = begun()
    before, now = np.linspace(900.0, target.clock.now() - 0.001, 50), target.clock.now()
    target.router.shift(1.0, 0.0)
    assert (target.router.chosen(before) == -1).all()
    assert (target.router.chosen(np.array([now, now + 1.0])) == CANARY).all()
    target.clock.sleep(10.0)
    target.router.end()
    assert (target.router.chosen(np.array([now, now + 1.0])) == CANARY).all()
    assert (target.router.chosen(np.array([now + 10.0])) == -1).all()


def test_a_failing_canary_fails_its_share_of_its_own_share(tmp_path: Path) -> None:
    target = begun(canary_failing=0.5)
    target.router.shift(0.2, 0.2)
    seen = statuses(target, tmp_path)
    assert set(seen.tolist()) == {200, 500}
    assert np.mean(seen == 500) == pytest.approx(0.1, abs=0.02)


def test_what_a_dead_canary_does_not_answer_the_replicas_do(tmp_path: Path) -> None:
    target = begun(canary_failing=1.0, restart_s=math.inf)
    target.router.shift(1.0, 0.0)
    target.kill("canary-1")
    target.start_load(PLAN, tmp_path).wait()
    _, samples = read(tmp_path)
    assert answered(samples).all()


def test_the_servers_counters_hold_what_the_arms_answered(tmp_path: Path) -> None:
    target = begun(canary_failing=0.25)
    target.router.shift(0.5, 0.5)
    target.clock.sleep(target.settle_s)
    start = target.clock.wall()
    seen = statuses(target, tmp_path)
    target.clock.sleep(target.settle_s)
    counts = target.server_counts(start, target.clock.wall())
    assert counts is not None
    assert counts.requests == len(seen)
    assert counts.errors == np.count_nonzero(seen == 500)
    assert counts.errors > 0


def test_a_killed_arm_comes_back_and_shows_it() -> None:
    target = begun()
    target.kill("control-1")
    split = target.router.split()
    assert split is not None
    assert [(item.name, bool(item.identity), item.ready) for item in split.replicas] == [
        ("canary-1", True, True), ("control-1", False, False),
    ]  # fmt: skip
    target.clock.sleep(5.0)
    split = target.router.split()
    assert split is not None
    assert [(item.ready, item.restarts) for item in split.replicas] == [(True, 0), (True, 1)]


def test_a_new_canary_has_new_processes_and_no_restarts() -> None:
    target = begun()
    first = target.router.split()
    target.kill("canary-1")
    target.router.end()
    target.router.begin("2")
    second = target.router.split()
    assert first is not None
    assert second is not None
    assert [item.restarts for item in second.replicas] == [0, 0]
    assert {item.identity for item in first.replicas}.isdisjoint(item.identity for item in second.replicas)


def test_a_canary_that_does_not_become_ready_is_told_at_the_deadline() -> None:
    target = MemoryTarget(Behaviour(canary_startup_s=math.inf))
    before = target.clock.now()
    with pytest.raises(StepFailed, match=r"canary-1 was not ready within 120 s \(last seen: .*ready=False"):
        target.router.begin("2")
    assert target.clock.now() - before == BEGIN_WITHIN_S
    target.router.end()
    assert target.router.split() is None


def test_a_router_that_refuses_changes_nothing_until_it_works_again() -> None:
    target = begun()
    before = target.router.split()
    target.behaviour.router_works = False
    changes: tuple[Callable[[], None], ...] = (
        lambda: target.router.begin("1"), lambda: target.router.shift(1.0, 0.0), target.router.promote,
        lambda: target.router.demote("2"), target.router.end,
    )  # fmt: skip
    for change in changes:
        with pytest.raises(StepFailed, match="the router changes nothing just now"):
            change()
    assert target.router.split() == before
    target.behaviour.router_works = True
    target.router.end()
    assert target.router.split() is None
