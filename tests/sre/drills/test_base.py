from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from sre.drills.base import EXPERIMENTS, STEPS, Case, Context, Drill, Judgement, Options, read_case
from sre.drills.catalog import DRILLS
from sre.drills.pod_recovery import PodRecovery
from sre.errors import CannotRun, EvidenceDamaged, StepFailed, TargetUnavailable
from sre.evidence import journal
from sre.measure.samples import HEADER_NAME
from sre.promises import promise
from sre.readings import LoadPlan, ServerCounts
from sre.targets.base import Capability
from sre.targets.memory import Behaviour

MakeContext = Callable[..., Context]


class Plain(Drill):
    """Only what a drill must have."""

    name = "peak-load"
    summary = "nothing"
    promises: ClassVar = ("throughput",)
    needs: ClassVar[frozenset[Capability]] = frozenset()

    def recover(self, context: Context) -> str:
        return "whole"

    def judge(self, case: Case) -> Judgement:
        return Judgement(())


def test_the_steps_are_methods_of_every_drill_except_the_undo() -> None:
    assert STEPS == ("preflight", "steady", "inject", "prove_injected", "recover", "undo", "judge")
    for kind in DRILLS.values():
        assert all(callable(getattr(kind, step)) for step in STEPS if step != "undo")


@pytest.mark.parametrize("kind", DRILLS.values(), ids=list(DRILLS))
def test_a_drill_says_what_it_proves(kind: type[Drill]) -> None:
    assert kind.summary
    assert all(kind.name in promise(name).drills for name in kind.promises)
    assert kind.experiment is None or (EXPERIMENTS / kind.experiment).is_file()
    plan = kind().plan(Options(rate=7.0, seconds=3.0, seed=5))
    assert plan is None or (plan.rate, plan.seed) == (7.0, 5)


def test_a_note_is_a_fact_and_on_disk(make_context: MakeContext) -> None:
    context = make_context("peak-load")
    context.note(fault_at=12.5, looks=[[1.0, 2]])
    assert context.facts == {"fault_at": 12.5, "looks": [[1.0, 2]]}
    events = journal.read(context.journal.path)
    assert [(event["drill"], event["name"], event["value"]) for event in events] == [
        ("peak-load", "fault_at", 12.5),
        ("peak-load", "looks", [[1.0, 2]]),
    ]


def test_a_command_is_on_disk_before_it_is_run(make_context: MakeContext) -> None:
    context = make_context("pod-recovery")
    context.ran(("chaos", "run"))
    (event,) = journal.read(context.journal.path)
    assert (event["event"], event["drill"], event["command"]) == ("command", "pod-recovery", ["chaos", "run"])


def test_until_returns_what_was_found_and_tells_what_it_waits_for(make_context: MakeContext) -> None:
    lines: list[str] = []
    context = make_context("peak-load", hear=lines.append)
    answers = iter([(None, "cold"), (None, "warm"), ("hot", "")])
    assert context.until(lambda: next(answers), within=5.0, what="tea", every=1.0) == "hot"
    assert lines == ["waiting for tea: cold (5 s left)", "waiting for tea: warm (4 s left)"]
    assert context.target.clock.now() == 1002.0


def test_until_gives_up_at_its_deadline_and_tells_what_it_last_saw(make_context: MakeContext) -> None:
    context = make_context("peak-load")
    began = context.target.clock.now()
    with pytest.raises(StepFailed, match=r"^tea not within 5 s \(last seen: cold\)$"):
        context.until(lambda: (None, "cold"), within=5.0, what="tea", every=1.0)
    assert context.target.clock.now() - began == 5.0


def test_preflight_of_a_whole_system(make_context: MakeContext) -> None:
    seen = Plain().preflight(make_context("peak-load"))
    assert seen == "3 of 3 replicas ready, a user is served, Prometheus answers"


def test_preflight_waits_for_a_replica_that_is_starting(make_context: MakeContext) -> None:
    context = make_context("peak-load")
    context.target.kill("serving-1")
    assert Plain().preflight(context).startswith("3 of 3")
    assert context.target.clock.now() >= 1005.0


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        (Behaviour(replicas=0), StepFailed, "every replica to be ready not within 30 s .last seen: no replica at all"),
        (Behaviour(failing=1.0), TargetUnavailable, "answered 500 .no prediction.; see `sre status`"),
        (Behaviour(metric=False), StepFailed, "the replicas' counters in Prometheus not within 30 s"),
        (Behaviour(prometheus=False), StepFailed, "the replicas' counters in Prometheus not within 30 s"),
    ],
)
def test_preflight_names_what_is_missing(
    make_context: MakeContext, behaviour: Behaviour, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Plain().preflight(make_context("peak-load", behaviour))


def test_preflight_names_the_replica_that_is_not_ready(make_context: MakeContext) -> None:
    context = make_context("peak-load")
    context.target.pause("serving-3")
    with pytest.raises(StepFailed, match="last seen: serving-3 not ready"):
        Plain().preflight(context)


def test_a_target_that_lacks_a_capability_cannot_run_the_drill(make_context: MakeContext) -> None:
    class Needy(Plain):
        needs: ClassVar = frozenset({Capability.REPLICAS, Capability.TRAINING, Capability.BACKUPS})

    with pytest.raises(CannotRun, match="target memory cannot do backups, training, which peak-load needs"):
        Needy().preflight(make_context("peak-load"))


def test_a_drill_without_a_plan_begins_no_load_and_injects_nothing(make_context: MakeContext) -> None:
    context = make_context("peak-load")
    assert Plain().steady(context) == "no load needed"
    assert context.load is None
    assert Plain().inject(context) == "no fault: the load is the test"
    assert Plain().prove_injected(context) == "nothing to prove"
    assert "load_from" not in context.facts


def test_steady_begins_the_load_and_says_how_it_is_answered(make_context: MakeContext) -> None:
    context = make_context("pod-recovery")
    seen = PodRecovery().steady(context)
    assert seen.startswith("300/s planned   2,")
    assert seen.endswith(" requests, 0 failed")
    assert context.facts["load_from"] == context.target.clock.wall() - 8.0
    assert context.load is not None
    assert context.load.running()


def test_a_load_that_ends_during_steady_is_no_steady_state(make_context: MakeContext) -> None:
    with pytest.raises(StepFailed, match="the load ended by itself after 0 requests, 0 failed"):
        PodRecovery().steady(make_context("pod-recovery", Behaviour(generator="dead")))


def test_a_case_holds_the_facts_and_the_recording(make_context: MakeContext) -> None:
    context = make_context("pod-recovery")
    load = context.observers.start_load(LoadPlan(50.0, 2.0, 1), context.folder)
    load.wait()
    case = read_case(context.folder, {"a": 1})
    recording, samples = case.load()
    assert case.facts == {"a": 1}
    assert len(samples) == recording.planned > 50


def test_a_case_without_a_recording_has_no_load(tmp_path: Path) -> None:
    case = read_case(tmp_path, {})
    assert (case.recording, case.samples) == (None, None)
    with pytest.raises(StepFailed, match="the load never finished its recording"):
        case.load()


def test_a_recording_cut_short_is_damaged_evidence(tmp_path: Path) -> None:
    (tmp_path / HEADER_NAME).write_text("{}", encoding="utf-8")
    with pytest.raises(EvidenceDamaged):
        read_case(tmp_path, {})


def test_a_case_reads_the_servers_counters_from_its_facts() -> None:
    document = {"start": 1.0, "end": 2.0, "requests": 3.0, "errors": 0.0, "p95": None, "resets": 0, "queries": ["q"]}
    assert Case({"server_counts": document}, None, None).server_counts() == ServerCounts(1.0, 2.0, 3.0, 0.0, None, 0, ("q",))
    assert Case({"server_counts": None}, None, None).server_counts() is None
    assert Case({}, None, None).server_counts() is None
