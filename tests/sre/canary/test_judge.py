from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.canary import plan as plans
from sre.canary.judge import Judge, Judged
from sre.judges.canary.decision import Action
from tests.sre.canary.rolling import Stage, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as made:
        made.target.router.begin("2")
        yield made


def judged(stage: Stage, looks: int, *, extended_s: float = 0.0) -> list[Judged]:
    """Looks at the first stage."""
    plan = plans.load(stage.plan_file)
    clock = stage.target.clock
    source = stage.source(plan)
    source.look(clock.wall() - 4.0, 0)
    stage.target.router.shift(0.1, 0.1)
    judge = Judge(plan, clock.wall())
    found = []
    for _ in range(looks):
        clock.sleep(2.0)
        found.append(judge.look(source.look(judge.since, 0), extended_s=extended_s))
    return found


def test_the_look_within_which_the_weights_changed_is_not_counted(stage: Stage) -> None:
    first, second, *_ = judged(stage, 3)
    assert {missing.metric for missing in first.interval.missing} == {"requests", "errors"}
    assert first.standing.metrics[0].n == 0
    assert second.interval.missing == ()
    assert first.brief == first.standing.reasons[0]


def test_a_crash_in_that_look_counts(stage: Stage) -> None:
    stage.prometheus.service.crash_at = stage.target.clock.wall() + 1.0
    assert judged(stage, 1)[0].action is Action.ROLLBACK


def test_a_deadline_is_told_and_can_be_moved(stage: Stage) -> None:
    stage.edit("at_most: 3m}\n  - {weight: 50%", "at_most: 20s}\n  - {weight: 50%")
    stage.edit("margin: 2x", "margin: 1.01x")
    assert [one.late for one in judged(stage, 11)] == [False] * 9 + [True] * 2
    assert not any(one.late for one in judged(stage, 11, extended_s=20.0))


def test_a_deadline_rolls_back_when_the_plan_says_so(stage: Stage) -> None:
    stage.edit("at_most: 3m}\n  - {weight: 50%", "at_most: 20s}\n  - {weight: 50%")
    stage.edit("margin: 2x", "margin: 1.01x")
    stage.edit("at_deadline: hold", "at_deadline: rollback")
    last = judged(stage, 10)[-1]
    assert (last.action, last.standing.action) == (Action.ROLLBACK, Action.HOLD)


def test_no_data_rolls_back_in_time_and_not_before(stage: Stage) -> None:
    judged(stage, 1)
    stage.prometheus.service.away = 503
    found = judged(stage, 10)
    assert [one.action for one in found] == [Action.HOLD] * 9 + [Action.ROLLBACK]
    assert found[-1].brief.startswith("no data for 20 s in one go: ")
