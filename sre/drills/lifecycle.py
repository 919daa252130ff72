"""Takes one drill through the lifecycle of `base.STEPS`: whatever happens, the undo happens, and what was measured is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from sre.drills.base import STEPS, Context, Drill, Judgement, read_case
from sre.errors import SreError, StepFailed, UndoIncomplete
from sre.evidence.schema import DrillRecord, FaultRecord, StepRecord
from sre.promises import promise
from sre.verdict import Outcome, combine

# The cluster deletes what was on a node once that is back, and Prometheus asks for names anew.
COUNTED_WITHIN_S = 60.0

Tell = Callable[[StepRecord], None]


@dataclass(slots=True)
class Ended:
    """A drill that went through its lifecycle.

    Attributes:
        record: for the run.
        undone: nothing that it changed is still changed.
        interrupted: someone pressed Ctrl-C.
    """

    record: DrillRecord
    undone: bool = True
    interrupted: bool = False


@dataclass(slots=True)
class _Progress:
    steps: list[StepRecord] = field(default_factory=list)
    failed: bool = False
    undone: bool = True
    interrupted: bool = False


def conduct(drill: Drill, context: Context, tell: Tell) -> Ended:
    """Carry out one drill.

    Args:
        drill: which.
        context: where, and where its files go.
        tell: gets each step as it ends.

    Returns:
        The record; a failed step is part of it and no exception. Only what nobody foresaw is raised, after the undo.
    """
    clock = context.target.clock
    started, started_wall = clock.now(), clock.wall()
    context.journal.write("drill", drill=drill.name, target=context.target.name, options=asdict(context.options))
    progress = _Progress()
    try:
        for name in STEPS[:5]:
            _take(name, getattr(drill, name), context, progress, tell)
    except KeyboardInterrupt:
        progress.interrupted = True
        progress.steps.append(StepRecord(name="interrupted", seconds=0.0, result="failed", detail="Ctrl-C: undoing"))
        tell(progress.steps[-1])
    finally:
        # An interrupt or an error nobody foresaw must not leave the system changed.
        _undo(context, progress, tell)
    judgement = Judgement(())

    def judge(context: Context) -> str:
        nonlocal judgement
        _collect(context)
        judgement = drill.judge(read_case(context.folder, context.facts))
        return f"{len(judgement.verdicts)} verdicts, {len(judgement.findings)} findings"

    if "load_from" in context.facts or not progress.failed:
        _take("judge", judge, context, progress, tell, despite_failure=True)
    outcomes = [verdict.outcome for verdict in judgement.verdicts]
    if progress.failed or progress.interrupted:
        outcomes.append(Outcome.ERROR)
    record = DrillRecord(
        name=drill.name, sentence=promise(drill.promises[0]).sentence, outcome=combine(outcomes), started=started,
        started_wall=started_wall, ended=clock.now(), steps=tuple(progress.steps), verdicts=judgement.verdicts,
        findings=judgement.findings, fault=fault_of(context), facts=dict(context.facts), folder=f"drills/{drill.name}",
    )  # fmt: skip
    return Ended(record, progress.undone, progress.interrupted)


def fault_of(context: Context) -> FaultRecord | None:
    """The fault that the facts speak of, if any."""
    facts = context.facts
    if "fault" not in facts:
        return None
    return FaultRecord(name=facts["fault"], start=facts["fault_at"], end=facts.get("fault_end"))


def _take(  # noqa: PLR0913 - one step needs all that the lifecycle has
    name: str,
    function: Callable[[Context], str],
    context: Context,
    progress: _Progress,
    tell: Tell,
    *,
    despite_failure: bool = False,
) -> None:
    if progress.failed and not despite_failure:
        step = StepRecord(name=name, seconds=0.0, result="skipped", detail="an earlier step failed")
        progress.steps.append(step)
        return
    clock = context.target.clock
    began = clock.now()
    context.journal.write("step", drill=context.drill, name=name, state="began")
    try:
        detail, result = function(context), "ok"
    except SreError as error:
        detail, result, progress.failed = str(error), "failed", True
    step = StepRecord(name=name, seconds=clock.now() - began, result=result, detail=detail)
    context.journal.write("step", drill=context.drill, name=name, state=result, detail=detail)
    progress.steps.append(step)
    tell(step)


def _undo(context: Context, progress: _Progress, tell: Tell) -> None:
    def undo(context: Context) -> str:
        try:
            done = context.ledger.replay(context.target)
        except KeyboardInterrupt as pressed:
            progress.undone, progress.interrupted = False, True
            raise UndoIncomplete("interrupted while undoing; `sre undo` takes back what is left") from pressed
        except SreError:
            progress.undone = False
            raise
        finally:
            lost = _stop_load(context)
        if done and "fault_end" not in context.facts:
            context.note(fault_end=context.target.clock.now())
        return "; ".join([*done, "nothing left changed", *lost])

    _take("undo", undo, context, progress, tell, despite_failure=True)


def _stop_load(context: Context) -> list[str]:
    try:
        if context.load is not None:
            context.load.stop()
    except StepFailed as error:
        # Not a change to the system: the judge will miss the recording and say so.
        return [str(error)]
    return []


def _collect(context: Context) -> None:
    """Ask Prometheus what the servers counted, once its scrapes have caught up with the load."""
    if "load_from" not in context.facts:
        return
    clock = context.target.clock
    ended, deadline = clock.wall(), clock.now() + COUNTED_WITHIN_S
    context.say("waiting for the servers' counters to be scraped")
    clock.sleep(context.observers.settle_s)
    while True:
        counts = context.observers.server_counts(context.facts["load_from"], clock.wall())
        if counts is None or counts.end >= ended or clock.now() > deadline:
            break
        # Prometheus still looks for a replica that is gone for good, and what that one counts meanwhile nobody knows.
        context.say(f"waiting for counters until the end of the load, {ended - counts.end:.0f} s of it left")
        clock.sleep(context.observers.settle_s)
    context.note(
        server_counts=None if counts is None else asdict(counts),
        scrape_s=context.observers.settle_s / 2,
        resend_s=context.observers.resend_s,
    )


def require_load(context: Context) -> None:
    """Raise when the load ended although the drill still needs it.

    Raises:
        StepFailed: it did; what follows would be measured without users.
    """
    if context.load is None or not context.load.running():
        raise StepFailed("the load ended before the drill did, so nobody would notice a failure")
