"""A rollout judged once more from its raw samples: it must come out as recorded, byte for byte."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sre.canary import record
from sre.canary.burn import Aftermath, Burned, limits
from sre.canary.judge import Judge, Judged
from sre.canary.plan import Plan
from sre.canary.questions import APPROVAL, DEADLINE
from sre.canary.record import Course
from sre.errors import SreError
from sre.evidence import attest, bundle, codec
from sre.evidence.schema import DrillRecord
from sre.judges.canary.decision import Action
from sre.units import Comparison, Unit
from sre.verdict import Outcome, Verdict

_LOOK, _BURN = ("interval", "standing", "action", "why"), ("until", "action", "log_e", "burns", "why")


@dataclass(frozen=True, slots=True)
class Retraced:
    """A rollout judged once more.

    Attributes:
        judged: looks with a control.
        burned: looks after the promotion.
        wrong: where the record says something else, one sentence each.
        broke_off: whether a look differs, after which nothing was judged.
    """

    judged: tuple[Judged, ...]
    burned: tuple[Burned, ...]
    wrong: tuple[str, ...]
    broke_off: bool = False


def retrace(course: Course) -> Retraced:
    """Judge the looks of a rollout from their samples. Ends at the first that differs: those after it would, too."""
    judged: list[Judged] = []
    burned: list[Burned] = []
    if course.counted_from is None:
        return Retraced((), (), tuple(_conclusions(course, judged, burned)))
    judge = Judge(course.plan, course.counted_from)
    for number, told in enumerate(course.looks, 1):
        judged.append(judge.look(told.look, extended_s=told.extended_s))
        if wrong := _differs(record.verdict(judged[-1]), told.line, _LOOK):
            return Retraced(tuple(judged), (), (f"look {number} of {len(course.looks)}: {wrong}",), broke_off=True)
    if course.watched_from is not None:
        held_to = limits(course.plan.rules(), [one.interval for one in judged], judged[-1].standing)
        if wrong := _differs({"held_to": codec.plain(held_to)}, course.of("watching")[0], ("held_to",)):
            return Retraced(tuple(judged), (), (f"the baseline: {wrong}",), broke_off=True)
        after = Aftermath(course.plan, held_to, course.watched_from)
        for number, told in enumerate(course.burns, 1):
            burned.append(after.look(told.look))
            if wrong := _differs(codec.plain(burned[-1]), told.line, _BURN):
                where = f"look {number} of {len(course.burns)} after the promotion"
                return Retraced(tuple(judged), tuple(burned), (f"{where}: {wrong}",), broke_off=True)
    return Retraced(tuple(judged), tuple(burned), tuple(_conclusions(course, judged, burned)))


def verify(folder: Path, key: Ed25519PublicKey) -> list[str]:
    """Check a finished rollout as someone would who trusts its signer alone.

    Args:
        folder: of the run.
        key: public key of the signer.

    Returns:
        What is wrong, one sentence each; empty when the signature, every file, every look and the verdict hold.

    Raises:
        EvidenceDamaged: the record itself cannot be read.
    """
    found = bundle.load(folder)
    wrong = attest.problems(folder, found, key)
    if [drill.name for drill in found.drills] != [record.CANARY]:
        return [*wrong, f"{folder.name} is no rollout of a canary"]
    return [*wrong, *rejudge(found.drills[0], folder)]


def rejudge(drill: DrillRecord, folder: Path) -> list[str]:
    """What of a rollout's record does not follow from its samples, one sentence each."""
    try:
        course = record.read(folder)
        again = retrace(course)
    except SreError as error:
        return [str(error)]
    # After a look that differs everything else does, too.
    wrong = list(again.wrong)
    decision = course.decision()
    if again.broke_off:
        return wrong
    if decision is None or decision["outcome"] != drill.outcome:
        wrong.append(f"the outcome is recorded as {drill.outcome}, the journal decided {decision and decision['outcome']}")
    elif codec.plain(verdicts(course.plan, decision, again.judged)) != codec.plain(drill.verdicts):
        wrong.append("the verdict computed from the looks is not the one that was recorded")
    return wrong


def verdicts(plan: Plan, decision: Mapping[str, Any], judged: tuple[Judged, ...]) -> tuple[Verdict, ...]:
    """The verdict of a rollout: how probable its evidence would be at most, were the canary worse than allowed (1/E).

    Args:
        plan: with the bound.
        decision: the journal's line, with outcome and reason.
        judged: all looks with a control.
    """
    outcome = Outcome(decision["outcome"])
    if outcome is Outcome.ERROR:
        return ()
    fine = [metric.log_e_fine for metric in judged[-1].standing.metrics if metric.log_e_fine is not None] if judged else []
    return (
        Verdict(
            promise=record.CANARY, outcome=outcome, measured=math.exp(min(0.0, -min(fine))) if fine else None,
            bound=plan.errors.promote, comparison=Comparison.BELOW, unit=Unit.RATIO,
            n=sum(one.interval.canary_requests + one.interval.control_requests for one in judged), interval=None,
            why=decision["why"],
        ),
    )  # fmt: skip


def _differs(again: Mapping[str, Any], told: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    """The first field that comes out otherwise than recorded, in a sentence; empty when there is none."""
    for name in fields:
        here, there = json.dumps(again[name]), json.dumps(told.get(name))
        if here != there:
            at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
            start = max(at - 40, 0)
            return f"{name} comes out as ...{here[start : at + 40]}..., recorded is ...{there[start : at + 40]}..."
    return ""


def _conclusions(course: Course, judged: list[Judged], burned: list[Burned]) -> Iterator[str]:
    """Where the rollout did not do what the looks and the plan say."""
    decision = course.decision()
    if decision is None:
        return
    yield from _consents(course)
    outcome = Outcome(decision["outcome"])
    newest = [one.action for one in (judged[-1:] if not burned else burned[-1:])]
    if newest == [Action.ROLLBACK] and outcome not in {Outcome.BROKEN, Outcome.ERROR}:
        yield f"the last look says ROLLBACK and the outcome is recorded as {outcome}"
    refused = any(not event["yes"] for event in course.of("answer")) or any(not event["granted"] for event in course.of("policy"))
    if outcome is Outcome.BROKEN and newest != [Action.ROLLBACK] and not refused:
        yield "it was rolled back, and neither a look nor a person nor the policy says so"
    if outcome is Outcome.KEPT:
        yield from _promotion(course, judged, burned)


def _promotion(course: Course, judged: list[Judged], burned: list[Burned]) -> Iterator[str]:
    plan = course.plan
    for index, stage in enumerate(plan.stages):
        if stage.control > 0:
            of = [one.action for one in judged if one.interval.stage == index]
            if of[-1:] != [Action.PROMOTE]:
                yield f"it was promoted, though the last look of stage {index + 1} says {of[-1] if of else 'nothing'}"
        elif [one.action for one in burned[-1:]] != [Action.PROMOTE]:
            yield "it was promoted, though the watch after it did not end well"
        if stage.approval and not course.of("answer", about=APPROVAL, stage=index, yes=True):
            yield f"it was promoted, though nobody let it go on to stage {index + 1}"


def _consents(course: Course) -> Iterator[str]:
    """Extensions of a stage that nobody gave before the look that used them."""
    for told in course.looks:
        stage = course.plan.stages[told.look.stage]
        before = [event for event in course.of("answer", about=DEADLINE, stage=told.look.stage, yes=True)
                  if event["seq"] < told.line["seq"]]  # fmt: skip
        if told.extended_s != stage.at_most * len(before):
            yield f"at {told.line['at']} the stage went on for {told.extended_s:g} s more than people said"
            return
