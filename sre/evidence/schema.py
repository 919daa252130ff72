"""The shape of `run.json`, schema `sre.run/1`. Everything a run prints is rebuilt from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sre.verdict import Outcome, Verdict

SCHEMA = "sre.run/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of the lifecycle, finished.

    Attributes:
        name: `preflight`, `steady`, `inject`, `prove_injected`, `recover`, `undo` or `judge`.
        seconds: how long it took.
        result: `ok`, `failed` or `skipped`.
        detail: what it saw, one line.
    """

    name: str
    seconds: float
    result: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """What was broken and for how long, monotonic s; `end` is None while it still is."""

    name: str
    start: float
    end: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRecord:
    """One drill, finished.

    Attributes:
        name: of the drill.
        sentence: the promise in words.
        outcome: combined from the verdicts and from the steps that failed.
        started, ended: monotonic s; `started_wall`: the same instant as `started`, seconds since the epoch.
        steps, verdicts: in order.
        findings: sentences on what was odd, for example two sources that disagree.
        fault: None for drills without one.
        facts: what the judge used beyond the samples, by name: event times, counts.
        folder: of its raw files, relative to the run's folder.
    """

    name: str
    sentence: str
    outcome: Outcome
    started: float
    started_wall: float
    ended: float
    steps: tuple[StepRecord, ...]
    verdicts: tuple[Verdict, ...]
    findings: tuple[str, ...]
    fault: FaultRecord | None
    facts: Mapping[str, Any]
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of one or more drills.

    Attributes:
        id: `20260101T120000Z-pod-recovery`; the name of its folder.
        title: what was run, in words.
        target: name of the target.
        started, ended: seconds since the epoch.
        outcome: combined from the drills.
        exit_code: of the command.
        drills: in the order they ran.
        environment: machine, versions of every program, commit; no secret.
    """

    id: str
    title: str
    target: str
    started: float
    ended: float
    outcome: Outcome
    exit_code: int
    drills: tuple[DrillRecord, ...]
    environment: Mapping[str, Any]
