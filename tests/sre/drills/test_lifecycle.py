from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sre.drills import run
from sre.drills.alerting import Alerting
from sre.drills.base import STEPS, Case, Context, Judgement, Options
from sre.drills.lifecycle import conduct, fault_of, require_load
from sre.drills.peak_load import PeakLoad
from sre.drills.pod_recovery import PodRecovery
from sre.errors import ExitCode, StepFailed
from sre.evidence import journal
from sre.evidence.schema import FaultRecord, StepRecord
from sre.faults.base import Undo
from sre.readings import LoadPlan
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.simulation import VirtualClock
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills

MakeContext = Callable[..., Context]


def test_the_steps_are_taken_in_order_and_told_as_they_end(make_context: MakeContext) -> None:
    context, told = make_context("pod-recovery"), list[StepRecord]()
    context.folder.mkdir(parents=True)
    ended = conduct(PodRecovery(), context, told.append)
    assert tuple(step.name for step in told) == STEPS
    assert ended.record.steps == tuple(told)
    assert {step.result for step in told} == {"ok"}
    assert (ended.undone, ended.interrupted) == (True, False)
    assert ended.record.folder == "drills/pod-recovery"
    assert ended.record.facts == context.facts


def test_every_step_is_in_the_journal_before_and_after(make_context: MakeContext) -> None:
    context = make_context("pod-recovery")
    context.folder.mkdir(parents=True)
    conduct(PodRecovery(), context, lambda _: None)
    events = journal.read(context.journal.path)
    assert events[0]["event"] == "drill"
    assert events[0]["options"]["replica"] == "serving-2"
    steps = [(event["name"], event["state"]) for event in events if event["event"] == "step"]
    assert steps == [(name, state) for name in STEPS for state in ("began", "ok")]


def test_after_a_failed_step_the_rest_is_skipped_but_not_the_undo(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), behaviour=Behaviour(faults_work=False))
    assert [(step.name, step.result) for step in ran.drill.steps] == [
        ("preflight", "ok"),
        ("steady", "ok"),
        ("inject", "ok"),
        ("prove_injected", "failed"),
        ("recover", "skipped"),
        ("undo", "ok"),
        ("judge", "ok"),
    ]
    assert ran.drill.outcome is Outcome.ERROR


def test_without_a_load_a_failed_drill_is_not_judged(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), behaviour=Behaviour(replicas=0))
    assert [step.name for step in ran.drill.steps][-1] == "undo"
    assert ran.drill.verdicts == ()


def test_a_measured_breach_is_not_hidden_by_a_step_that_failed(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), behaviour=Behaviour(faults_work=False, failing=0.05))
    assert ran.step("prove_injected").result == "failed"
    assert ran.drill.outcome is Outcome.BROKEN
    assert ran.record.exit_code == ExitCode.BROKEN


@pytest.mark.parametrize("words", ["replicas ready, ", "waiting for serving-2 to be gone", "waiting for every replica"])
def test_an_interrupt_undoes_and_says_so(run_drills: RunDrills, words: str) -> None:
    def press(line: str) -> None:
        if words in line:
            raise KeyboardInterrupt

    behaviour = Behaviour(faults_work="gone" not in words, replicas=0 if "every" in words else 3)
    ran = run_drills(PodRecovery(), PeakLoad(), behaviour=behaviour, hear=press)
    assert ran.record.exit_code == ExitCode.INTERRUPTED
    assert [drill.name for drill in ran.record.drills] == ["pod-recovery"]
    assert ran.record.outcome is Outcome.ERROR
    assert ran.step("interrupted").detail == "Ctrl-C: undoing"
    assert ran.step("undo").result == "ok"
    assert ran.pending() == 0
    assert all(replica.ready for replica in ran.target.replicas())
    assert run.verify(ran.folder, ran.key) == []


def test_an_interrupt_while_a_replica_is_frozen_thaws_it(run_drills: RunDrills) -> None:
    def press(line: str) -> None:
        if line.startswith("LowReplicaCount silent, 5 s"):
            raise KeyboardInterrupt

    ran = run_drills(Alerting(), hear=press)
    assert ran.record.exit_code == ExitCode.INTERRUPTED
    assert ran.step("undo").detail == "resume serving-2; nothing left changed"
    assert all(replica.ready for replica in ran.target.replicas())
    assert ran.drill.fault is not None
    assert ran.drill.fault.end is not None
    assert run.verify(ran.folder, ran.key) == []


def test_an_undo_that_fails_ends_the_run_with_its_own_exit_code(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), PeakLoad(), behaviour=Behaviour(startup_s=math.inf))
    assert ran.record.exit_code == ExitCode.UNDO_INCOMPLETE
    assert [drill.name for drill in ran.record.drills] == ["pod-recovery"]
    assert ran.step("undo").result == "failed"
    assert ran.step("undo").detail.startswith("still changed: wait until serving-2 is ready again: ")
    assert run.verify(ran.folder, ran.key) == []


def test_an_undo_that_fails_after_an_interrupt_is_the_worse_news(run_drills: RunDrills) -> None:
    def press(line: str) -> None:
        if "replicas ready, 3" in line:
            raise KeyboardInterrupt

    ran = run_drills(PodRecovery(), behaviour=Behaviour(startup_s=math.inf), hear=press)
    assert ran.record.exit_code == ExitCode.UNDO_INCOMPLETE
    assert ran.pending() == 1


def test_a_second_interrupt_does_not_pretend_that_the_undo_was_done(make_context: MakeContext) -> None:
    pressed: list[str] = []

    class Impatient(VirtualClock):
        def sleep(self, seconds: float) -> None:
            if len(pressed) == 1:
                pressed.append("while undoing")
                raise KeyboardInterrupt
            super().sleep(seconds)

    def press(line: str) -> None:
        if "replicas ready, 3" in line and not pressed:
            pressed.append("while recovering")
            raise KeyboardInterrupt

    context = make_context("pod-recovery", Behaviour(startup_s=60.0), hear=press)
    context.folder.mkdir(parents=True)
    assert isinstance(context.target, MemoryTarget)
    context.target.clock = Impatient()
    ended = conduct(PodRecovery(), context, lambda _: None)
    assert pressed == ["while recovering", "while undoing"]
    assert (ended.undone, ended.interrupted) == (False, True)
    (undo,) = [step for step in ended.record.steps if step.name == "undo"]
    assert undo.detail == "interrupted while undoing; `sre undo` takes back what is left"
    assert len(context.ledger.pending()) == 1
    # The next one goes on where this one stopped.
    assert context.ledger.replay(context.target) == ["wait until serving-2 is ready again"]


def test_what_nobody_foresaw_is_raised_after_the_undo(make_context: MakeContext) -> None:
    class Surprising(Alerting):
        def recover(self, context: Context) -> str:
            raise ZeroDivisionError

    context = make_context("alerting")
    context.folder.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError):
        conduct(Surprising(), context, lambda _: None)
    assert context.ledger.pending() == []
    assert all(replica.ready for replica in context.target.replicas())
    assert context.load is not None
    assert not context.load.running()


def test_a_generator_that_dies_is_told_at_the_undo_and_missed_by_the_judge(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), behaviour=Behaviour(generator="dead"))
    assert ran.step("undo").detail == "nothing left changed; the load generator died without a recording; last words: none"
    assert ran.step("judge").result == "failed"
    assert "there are no samples" in ran.step("judge").detail
    assert ran.drill.outcome is Outcome.ERROR


def test_counters_are_asked_for_once_the_scrapes_have_caught_up(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery())
    assert ran.step("judge").seconds == 4.0
    assert ran.drill.facts["scrape_s"] == 2.0
    assert ran.drill.facts["resend_s"] == ran.target.resend_s
    assert ran.drill.facts["server_counts"]["requests"] > 5000


def test_a_ledger_that_cannot_be_read_leaves_the_run_with_an_undo_incomplete(make_context: MakeContext) -> None:
    class Damaging(Alerting):
        def recover(self, context: Context) -> str:
            context.ledger.path.write_text("not json\n", encoding="utf-8")
            return "damaged"

    context = make_context("alerting")
    context.folder.mkdir(parents=True)
    ended = conduct(Damaging(), context, lambda _: None)
    assert not ended.undone
    assert not context.target.replicas()[1].ready


def test_a_change_that_was_only_half_made_is_undone_too(make_context: MakeContext) -> None:
    class Half(Alerting):
        def inject(self, context: Context) -> str:
            context.ledger.plan(Undo("resume", {"replica": "serving-1"}, "resume serving-1"))
            context.target.pause("serving-1")
            raise StepFailed("half way")

    context = make_context("alerting")
    context.folder.mkdir(parents=True)
    ended = conduct(Half(), context, lambda _: None)
    assert ended.undone
    assert all(replica.ready for replica in context.target.replicas())
    assert context.facts["fault_end"] == context.target.clock.now() - context.observers.settle_s


def test_a_drill_without_a_fault_records_none(make_context: MakeContext) -> None:
    context = make_context("peak-load")
    assert fault_of(context) is None
    context.facts.update(fault="SIGKILL serving-2", fault_at=1.0)
    assert fault_of(context) == FaultRecord(name="SIGKILL serving-2", start=1.0, end=None)
    context.facts["fault_end"] = 3.0
    assert fault_of(context) == FaultRecord(name="SIGKILL serving-2", start=1.0, end=3.0)


def test_the_load_is_required_to_run(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context("peak-load")
    with pytest.raises(StepFailed, match="the load ended before the drill did"):
        require_load(context)
    context.load = context.observers.start_load(LoadPlan(10.0, 2.0, 1), tmp_path / "load")
    require_load(context)
    context.load.wait()
    with pytest.raises(StepFailed, match="the load ended before the drill did"):
        require_load(context)


def test_a_judge_without_verdicts_is_inconclusive(run_drills: RunDrills) -> None:
    class Silent(PeakLoad):
        def judge(self, case: Case) -> Judgement:
            return Judgement(())

    ran = run_drills(Silent(), options=Options(seconds=2.0))
    assert ran.record.exit_code == ExitCode.INCONCLUSIVE
    assert run.verify(ran.folder, ran.key) != []
