"""Rollouts begun, continued after a crash, aborted; and their evidence, closed and signed."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sre.canary import plan as plans
from sre.canary import record as records
from sre.canary import replay, report
from sre.canary.record import CANARY, Course, Record
from sre.canary.rollout import Around, Ended, Rollout
from sre.clock import Clock
from sre.errors import CannotRun, ExitCode
from sre.evidence import bundle, journal, sign
from sre.evidence.bundle import Bundle
from sre.evidence.schema import DrillRecord, RunRecord
from sre.targets.base import Target
from sre.targets.local import processes
from sre.verdict import Outcome

ABORTED_WITHIN_S = 180.0
Arrange = Callable[[Record, plans.Plan, Path], Around]


@dataclass(frozen=True, slots=True)
class Finished:
    """A rollout that is over: its record and its folder."""

    record: RunRecord
    folder: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where evidence goes: the folder of all runs, the file of the signing key, and what the machine is."""

    root: Path
    signing_key: Path
    environment: Mapping[str, Any]


def begin(plan_file: Path, version: str, target: Target, arrange: Arrange, place: Place) -> Finished:
    """Roll out a version.

    Args:
        plan_file: of the plan.
        version: of the registered model.
        target: the system.
        arrange: brings together what the rollout works with, from its record, its plan, and the folder where that was found.
        place: where evidence goes.

    Raises:
        UsageError: the plan is wrong.
        CannotRun: the signing key cannot be used; nothing was done then.
    """
    plan = plans.load(plan_file)
    sign.private_key(place.signing_key)
    evidence = bundle.create(place.root, CANARY, target.clock)
    record = Record(evidence)
    record.write("run", name=CANARY, target=target.name, handle=target.handle, process=processes.identity(os.getpid()))
    text = plan_file.read_bytes()
    (record.folder / records.PLAN).write_bytes(text)
    record.write(
        CANARY, model=plan.name, version=version, began=target.clock.wall(), plan_sha256=hashlib.sha256(text).hexdigest(),
        beside=str(plan_file.resolve().parent),
    )  # fmt: skip
    record.write("drill", drill=CANARY)
    rollout = Rollout(plan, version, arrange(record, plan, plan_file.resolve().parent), record)
    return _finish(record, target, rollout.conduct(), place)


def resume(folder: Path, target: Target, arrange: Arrange, place: Place) -> Finished:
    """Go on with a rollout whose process is gone. Nothing that it knew is lost.

    Raises:
        CannotRun: it is over, still under way, or ran on another target.
    """
    record, course = _take_over(folder, target)
    rollout = Rollout(course.plan, course.version, arrange(record, course.plan, course.beside), record, course)
    return _finish(record, target, rollout.conduct(), place)


def abort(folder: Path, target: Target, arrange: Arrange, place: Place, who: str) -> Finished:
    """End a rollout and take back all that it changed; one that is under way is told to do so itself.

    Args:
        folder: of the run.
        target: the system.
        arrange: as for `begin`.
        place: where evidence goes.
        who: wants it, for the record.

    Raises:
        CannotRun: it is over, or did not end within its time.
    """
    course = records.read(folder)
    if not (folder / bundle.RUN).exists() and processes.signal_process(course.process, signal.SIGTERM):
        _await_end(folder, target.clock)
        return Finished(bundle.load(folder), folder)
    record, course = _take_over(folder, target)
    rollout = Rollout(course.plan, course.version, arrange(record, course.plan, course.beside), record, course)
    return _finish(record, target, rollout.abandon(f"aborted by {who}"), place)


def _take_over(folder: Path, target: Target) -> tuple[Record, Course]:
    if (folder / bundle.RUN).exists():
        raise CannotRun(f"{folder.name} is over; `sre report {folder.name}` tells how it ended")
    course = records.read(folder)
    if processes.alive(course.process):
        pid = course.process.partition("@")[0]
        raise CannotRun(f"{folder.name} is still under way in process {pid}; `sre canary abort {folder.name}` ends it")
    if course.handle != target.handle:
        raise CannotRun(f"{folder.name} ran on {course.handle}, this is {target.handle}; let SRE_HOME name its home")
    record = Record(Bundle(folder, target.clock))
    record.trim()
    record.write("resumed", process=processes.identity(os.getpid()))
    return record, course


def _await_end(folder: Path, clock: Clock) -> None:
    deadline = clock.now() + ABORTED_WITHIN_S
    while not (folder / bundle.RUN).exists():
        if clock.now() > deadline:
            raise CannotRun(f"{folder.name} did not end within {ABORTED_WITHIN_S:.0f} s after SIGTERM; see its journal")
        clock.sleep(0.2)


def _finish(record: Record, target: Target, ended: Ended, place: Place) -> Finished:
    """Close the evidence: the record, the report, the signature."""
    folder = record.evidence.folder
    course = records.read(folder)
    decision = course.decision()
    assert decision is not None  # noqa: S101 - every rollout ends with one
    judged = replay.retrace(course).judged
    events = journal.read(record.evidence.journal.path)
    exit_code = ExitCode(ended.exit_code)
    drill = DrillRecord(
        name=CANARY, sentence=f"version {course.version} is no worse than version {course.production or 'in production'}",
        outcome=Outcome(decision["outcome"]), started=events[0]["t"], started_wall=course.began, ended=target.clock.now(),
        steps=records.steps(events), verdicts=replay.verdicts(course.plan, decision, judged),
        findings=tuple(event["sentence"] for event in course.of("finding")), fault=None, facts={},
        folder=record.folder.relative_to(folder).as_posix(),
    )  # fmt: skip
    run = RunRecord(
        id=record.evidence.id, title=f"canary of {course.plan.name} version {course.version}", target=target.name,
        started=course.began, ended=target.clock.wall(), outcome=drill.outcome, exit_code=exit_code, drills=(drill,),
        environment={**place.environment, **target.describe()},
    )  # fmt: skip
    record.evidence.seal(run, sign.private_key(place.signing_key), report.render)
    return Finished(run, folder)
