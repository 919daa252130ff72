from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from sre.canary import record as records
from sre.canary.approval import give
from sre.canary.record import Course, Record
from sre.canary.rollout import Permission, Rollout
from sre.errors import ExitCode, UsageError
from sre.evidence.bundle import Bundle
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.judges.canary.decision import Action
from sre.targets.memory import MemoryTarget
from sre.verdict import Outcome
from tests.sre.canary.rolling import Says, Stage, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as made:
        yield made


def steps(stage: Stage, done: object) -> list[tuple[str, str]]:
    (folder,) = stage.place.root.iterdir()
    return [(step.name, step.result) for step in records.steps(records.read(folder).events)]


def course(stage: Stage) -> Course:
    (folder,) = stage.place.root.iterdir()
    return records.read(folder)


def test_a_healthy_version_goes_into_production(stage: Stage) -> None:
    done = stage.begin()
    assert (done.record.outcome, done.record.exit_code) == (Outcome.KEPT, ExitCode.KEPT)
    names = ["start", "stage 10 %", "stage 50 %", "promote", "watch", "end"]
    assert steps(stage, done) == [(name, "ok") for name in names]
    assert [(event["canary"], event["control"]) for event in course(stage).of("weights")] == [(0.1, 0.1), (0.5, 0.5), (0, 0)]
    assert stage.target.router.split() is None
    stage.target.router.begin("1")
    split = stage.target.router.split()
    assert split is not None
    assert split.production == "2"
    assert Ledger(done.folder / LEDGER_NAME).pending() == []


def test_a_worse_version_is_rolled_back(stage: Stage) -> None:
    stage.prometheus.service.failing["canary"] = 0.25
    done = stage.begin()
    assert (done.record.outcome, done.record.exit_code) == (Outcome.BROKEN, ExitCode.BROKEN)
    assert steps(stage, done) == [("start", "ok"), ("stage 10 %", "failed"), ("roll back", "ok")]
    assert stage.untouched
    decision = course(stage).decision()
    assert decision is not None
    assert "errors" in decision["why"]


def test_a_crash_of_the_canary_rolls_back_at_once(stage: Stage) -> None:
    stage.prometheus.service.crash_at = stage.target.clock.wall() + 11.0
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    looked = course(stage).looks[-1].look.at
    assert looked <= stage.prometheus.service.crash_at + 2 * 2.0
    assert stage.untouched


def test_what_goes_wrong_only_at_all_traffic_is_demoted(stage: Stage) -> None:
    stage.prometheus.service.failing["promoted"] = 0.3
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    assert ("promote", "ok") in steps(stage, done)
    assert ("watch", "failed") in steps(stage, done)
    assert stage.untouched


def test_prometheus_away_holds_and_then_rolls_back(stage: Stage) -> None:
    began = stage.target.clock.wall()

    def away(_: object) -> None:
        stage.prometheus.service.away = 503 if stage.target.clock.wall() > began + 14 else 0

    stage.view.each = away
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    blind = [told for told in course(stage).looks if told.line["interval"]["missing"] and told.look.at > began + 16]
    assert {told.line["action"] for told in blind[:-1]} == {Action.HOLD}
    assert blind[-1].line["action"] == Action.ROLLBACK
    assert "no data for 20" in blind[-1].line["why"]
    assert stage.untouched


def test_prometheus_away_never_promotes(stage: Stage) -> None:
    stage.prometheus.service.away = 500
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    assert all(told.line["action"] != Action.PROMOTE for told in course(stage).looks)


def test_a_router_that_fails_leaves_nothing_changed_or_says_so(stage: Stage) -> None:
    def broken(_: object) -> None:
        stage.target.behaviour.router_works = False

    stage.view.each = broken
    done = stage.begin()
    assert done.record.exit_code == ExitCode.UNDO_INCOMPLETE
    assert [entry.undo.action for entry in Ledger(done.folder / LEDGER_NAME).pending()] == ["end-canary"]
    stage.target.behaviour.router_works = True
    assert Ledger(done.folder / LEDGER_NAME).replay(stage.target) == ["end the canary"]
    assert stage.untouched


def test_an_unknown_version_changes_nothing(stage: Stage) -> None:
    done = stage.begin("77")
    assert (done.record.outcome, done.record.exit_code) == (Outcome.ERROR, ExitCode.USAGE)
    assert stage.untouched


def test_a_canary_of_somebody_else_is_left_alone(stage: Stage) -> None:
    stage.target.router.begin("2")
    done = stage.begin("2")
    assert done.record.exit_code == ExitCode.CANNOT_RUN
    assert stage.target.router.split() is not None


def test_a_policy_refuses_the_start(stage: Stage) -> None:
    stage.changed["policy"] = lambda: Permission(granted=False, why="the budget is spent")
    done = stage.begin()
    assert done.record.exit_code == ExitCode.CANNOT_RUN
    assert "the budget is spent" in done.record.drills[0].steps[0].detail
    assert course(stage).of("undo") == []


def test_a_policy_that_turns_takes_the_promotion_back(stage: Stage) -> None:
    answers = iter([Permission(granted=True, why="SHIP"), Permission(granted=False, why="the budget burns")])
    stage.changed["policy"] = lambda: next(answers)
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    assert stage.untouched


def test_a_plan_that_cannot_decide_is_refused(stage: Stage) -> None:
    def refuse() -> list[str]:
        raise UsageError("this plan cannot come to a decision")

    stage.changed["foresee"] = refuse
    assert stage.begin().record.exit_code == ExitCode.USAGE
    assert stage.untouched


def test_an_interrupt_rolls_back(stage: Stage) -> None:
    def press(snapshot: object) -> None:
        if len(stage.view.snapshots) == 4:
            raise KeyboardInterrupt

    stage.view.each = press
    done = stage.begin()
    assert done.record.exit_code == ExitCode.INTERRUPTED
    assert stage.untouched


def test_an_approval_is_waited_for_while_the_stage_before_goes_on(stage: Stage) -> None:
    stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
    someone = Says(yes=True, after=5)
    stage.channels = (someone,)
    done = stage.begin()
    assert done.record.exit_code == ExitCode.KEPT
    (answer,) = course(stage).of("answer")
    assert (answer["yes"], answer["who"], answer["how"], answer["about"]) == (True, "somebody", "asked in a test", "approval")
    asked = course(stage).of("question")[0]["seq"]
    meanwhile = [told for told in course(stage).looks if asked < told.line["seq"] < answer["seq"]]
    assert len(meanwhile) >= 5
    assert {told.look.stage for told in meanwhile} == {0}


def test_no_answer_is_never_a_yes(stage: Stage) -> None:
    stage.edit("{weight: 10%, at_least: 10s, at_most: 3m}", "{weight: 10%, at_least: 10s, at_most: 3m, approval: true}")
    stage.channels = (Says(yes=True, after=None),)
    done = stage.begin()
    assert (done.record.outcome, done.record.exit_code) == (Outcome.INCONCLUSIVE, ExitCode.INCONCLUSIVE)
    assert course(stage).looks == ()
    assert stage.untouched


def test_a_no_rolls_back(stage: Stage) -> None:
    stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
    stage.channels = (Says(yes=False),)
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    assert "somebody said no" in done.record.drills[0].verdicts[0].why
    assert stage.untouched


def test_evidence_against_it_outvotes_a_yes(stage: Stage) -> None:
    stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
    stage.channels = (Says(yes=True, after=12),)

    def worse(_: object) -> None:
        if course(stage).question():
            stage.prometheus.service.failing["canary"] = 0.5

    stage.view.each = worse
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    assert course(stage).of("answer") == []


def test_an_approval_by_command_line_counts_for_its_question_only(stage: Stage) -> None:
    stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
    given: list[str] = []

    def approve(_: object) -> None:
        question = course(stage).question()
        if question and question["question"] not in given:
            (folder,) = stage.place.root.iterdir()
            give(folder / "drills" / records.CANARY, "0" * 32, yes=True) if not given else None
            give(folder / "drills" / records.CANARY, question["question"], yes=True)
            given.append(question["question"])

    stage.view.each = approve
    assert stage.begin().record.exit_code == ExitCode.KEPT
    (answer,) = course(stage).of("answer")
    assert (answer["how"], answer["question"]) == ("command line", given[0])


@pytest.mark.parametrize(
    ("someone", "code"), [(Says(yes=True), ExitCode.INCONCLUSIVE), (Says(yes=True, after=None), ExitCode.INCONCLUSIVE),
                          (Says(yes=False), ExitCode.BROKEN)],
)  # fmt: skip
def test_at_the_deadline_people_are_asked(stage: Stage, someone: Says, code: ExitCode) -> None:
    stage.edit("at_most: 3m}\n  - {weight: 50%", "at_most: 20s}\n  - {weight: 50%")
    stage.edit("margin: 2x", "margin: 1.01x")
    stage.prometheus.service.failing |= {"canary": 0.01, "control": 0.01}
    stage.channels = (someone,)
    stage.changed["answer_within_s"] = 10.0
    looks = 0

    def give_up(_: object) -> None:
        nonlocal looks
        looks += 1
        if looks > 25:
            someone._after = None

    stage.view.each = give_up
    done = stage.begin()
    assert done.record.exit_code == code
    assert stage.untouched
    extended = {told.extended_s for told in course(stage).looks}
    assert (max(extended) >= 20.0) == bool(course(stage).of("answer", yes=True))


def test_a_deadline_can_roll_back(stage: Stage) -> None:
    stage.edit("at_most: 3m}\n  - {weight: 50%", "at_most: 20s}\n  - {weight: 50%")
    stage.edit("margin: 2x", "margin: 1.01x")
    stage.edit("at_deadline: hold", "at_deadline: rollback")
    done = stage.begin()
    assert done.record.exit_code == ExitCode.BROKEN
    assert "deadline" in done.record.drills[0].verdicts[0].why


class Killed(BaseException):
    """Nothing of a rollout handles it, as nothing handles a SIGKILL."""


@pytest.mark.parametrize("moment", [1, 3, 8, 9, 12, 14, 18, 22])
def test_after_a_kill_nothing_is_lost(stage: Stage, tmp_path: Path, moment: int) -> None:
    """The folder as it was at some moment is all that a rollout goes on from, and it knows all that the one before knew."""
    stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
    stage.channels = (Says(yes=True),)
    copy = tmp_path / "copy"

    def kill(_: object) -> None:
        if len(stage.view.snapshots) == moment:
            (folder,) = stage.place.root.iterdir()
            shutil.copytree(folder, copy / folder.name)
            raise Killed

    stage.view.each = kill
    with pytest.raises(Killed):
        stage.begin()
    stage.view.each = lambda _: None
    shutil.rmtree(stage.place.root)
    (folder,) = copy.iterdir()
    before = records.read(folder)
    stage.target.clock.sleep(7.0)
    record = Record(Bundle(folder, stage.target.clock))
    rollout = Rollout(before.plan, before.version, stage.around(record, before.plan, folder), record, before)
    assert rollout.conduct().exit_code == ExitCode.KEPT
    after = records.read(folder)
    assert [told.line for told in after.looks][: len(before.looks)] == [told.line for told in before.looks]
    spans = [told.line["interval"] for told in after.looks]
    assert all(later["start"] == earlier["end"] for earlier, later in pairwise(spans))
    assert stage.target.router.split() is None


def test_after_a_kill_a_decided_rollback_is_carried_out(stage: Stage, tmp_path: Path) -> None:
    stage.prometheus.service.failing["canary"] = 0.5
    copy = tmp_path / "copy"

    def kill(_: object) -> None:
        (folder,) = stage.place.root.iterdir()
        if records.read(folder).looks[-1].line["action"] == Action.ROLLBACK:
            shutil.copytree(folder, copy / folder.name)
            raise Killed

    stage.view.each = kill
    with pytest.raises(Killed):
        stage.begin()
    (folder,) = copy.iterdir()
    before = records.read(folder)
    record = Record(Bundle(folder, stage.target.clock))
    looks = len(before.looks)
    ended = Rollout(before.plan, before.version, stage.around(record, before.plan, folder), record, before).conduct()
    assert ended.exit_code == ExitCode.BROKEN
    assert len(records.read(folder).looks) == looks
    assert stage.untouched


def test_the_undo_of_a_killed_rollout_is_that_of_every_run(stage: Stage) -> None:
    def kill(_: object) -> None:
        raise Killed

    stage.view.each = kill
    with pytest.raises(Killed):
        stage.begin()
    (folder,) = stage.place.root.iterdir()
    assert isinstance(stage.target, MemoryTarget)
    assert Ledger(folder / LEDGER_NAME).replay(stage.target) == ["end the canary"]
    assert stage.untouched
