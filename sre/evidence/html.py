"""`report.html`: one offline file that says first how the run ended, then why, then everything else.

No script, no external asset. Links lead to the raw files beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sre.clock import iso
from sre.errors import EvidenceDamaged, ExitCode
from sre.evidence import chart as drawing
from sre.evidence.codec import plain
from sre.evidence.files import ATTESTATION, CHECKSUMS, checksums
from sre.evidence.schema import DrillRecord, RunRecord
from sre.evidence.text import reason
from sre.measure import samples, windows
from sre.promises import PROMISES
from sre.units import Comparison, Unit, show, show_bound
from sre.verdict import Outcome, Verdict

# What exists only after the report was rendered; the rest is listed with its checksum.
_LATER = frozenset({"report.html", CHECKSUMS, ATTESTATION})
_WIDE, _NARROW = 1000.0, 420.0
_MOST_WINDOWS = 120
_WORDS = {Outcome.BROKEN: "broken", Outcome.INCONCLUSIVE: "inconclusive", Outcome.ERROR: "without a verdict, because of an error"}
_SENTENCES = {promise.id: promise.sentence for promise in PROMISES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A drill's load over time: drawn twice (wide and narrow), told in a sentence and in a table."""

    wide: drawing.Chart
    narrow: drawing.Chart
    summary: str
    rows: list[tuple[str, ...]]
    width: float


def render(record: RunRecord, folder: Path) -> str:
    """The report of a run.

    Args:
        record: of the run.
        folder: of the run; samples are read from it and files listed. A drill whose samples are absent or damaged has no
            timeline, and the report says so.
    """
    environment = Environment(
        loader=PackageLoader("sre.evidence"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["moment"] = lambda wall: iso(wall)[:19].replace("T", " ")
    environment.filters["seconds"] = lambda value: f"{value:,.1f} s"
    template = environment.get_template("report.html.j2")
    css = PackageLoader("sre.evidence").get_source(environment, "report.css")[0]
    names = checksums(folder, without=_LATER)
    return template.render(
        record=record,
        css=Markup(css),  # noqa: S704 (our own file)
        sentence=sentence(record),
        exit_meaning=ExitCode(record.exit_code).meaning,
        judged=[row for drill in record.drills for row in _judged(drill)],
        drills=[(drill, *_timeline(drill, folder), list(flat(drill.facts))) for drill in record.drills],
        environment=list(flat(record.environment)),
        files=[(name, (folder / name).stat().st_size, digest) for name, digest in names.items()],
    )


def sentence(record: RunRecord) -> str:
    """How the run ended, in one sentence."""
    verdicts = [verdict for drill in record.drills for verdict in drill.verdicts]
    if record.outcome is Outcome.KEPT and record.exit_code == ExitCode.KEPT:
        return f"{len(verdicts)} of {_counted(len(verdicts), 'promise', 'promises')} kept."
    if record.outcome is Outcome.KEPT:
        return f"The promises were kept, but: {ExitCode(record.exit_code).meaning}."
    tail = "" if record.exit_code == record.outcome.exit_code else f" {ExitCode(record.exit_code).meaning.capitalize()}."
    if names := [verdict.promise for verdict in verdicts if verdict.outcome is record.outcome]:
        of = _counted(len(verdicts), "promise", "promises")
        return f"{len(names)} of {of} {_WORDS[record.outcome]}: {', '.join(names)}.{tail}"
    if names := [drill.name for drill in record.drills if drill.outcome is record.outcome]:
        of = _counted(len(record.drills), "drill", "drills")
        return f"{len(names)} of {of} ended without a verdict: {', '.join(names)}.{tail}"
    return f"Nothing was judged.{tail}"


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested document as rows: dotted name, value as text."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A row of the promise table, as text."""

    promise: str
    sentence: str
    drill: str
    bound: str
    measured: str
    interval: str
    n: str
    outcome: Outcome
    why: str


def _judged(drill: DrillRecord) -> list[Judged]:
    rows = [_row(drill, verdict) for verdict in drill.verdicts]
    if all(verdict.outcome is not drill.outcome for verdict in drill.verdicts):
        blank = {"bound": "", "measured": "", "interval": "", "n": ""}
        rows.append(
            Judged(promise="", sentence=drill.sentence, drill=drill.name, outcome=drill.outcome, why=reason(drill), **blank)
        )
    return rows


def _row(drill: DrillRecord, verdict: Verdict) -> Judged:
    return Judged(
        promise=verdict.promise,
        sentence=_SENTENCES.get(verdict.promise, verdict.promise),
        drill=drill.name,
        bound=f"{'≥' if verdict.comparison is Comparison.AT_LEAST else '<'} {show_bound(verdict.bound, verdict.unit)}",
        measured=show(verdict.measured, verdict.unit, verdict.comparison),
        interval=_interval(verdict),
        n=f"{verdict.n:,}",
        outcome=verdict.outcome,
        why=verdict.why,
    )


def _interval(verdict: Verdict) -> str:
    if verdict.interval is None:
        return "one value"
    low, high = (show(end, verdict.unit, verdict.comparison).replace(" ", "\N{NO-BREAK SPACE}") for end in verdict.interval)
    return f"{low} to {high}"


def _timeline(drill: DrillRecord, folder: Path) -> tuple[Timeline | None, str]:
    """The timeline, or None and why there is none (an empty reason: the drill sends no load)."""
    where = folder / drill.folder
    if not (where / samples.RECORDS_NAME).exists() and not (where / samples.HEADER_NAME).exists():
        return None, ""
    try:
        recording, recorded = samples.read(where)
    except EvidenceDamaged as damaged:
        return None, f"No timeline: {str(damaged).replace(str(folder), folder.name)}."
    if not len(recorded):
        return None, "No timeline: the recording holds no request."
    width = _window(float(recorded["planned"][-1]) - recording.started)
    series = windows.series(recording, recorded, width)
    marks = _marks(drill, recording.started)
    return Timeline(
        wide=drawing.chart(series, marks, _WIDE),
        narrow=drawing.chart(series, marks, _NARROW),
        summary=drawing.summary(series),
        rows=drawing.rows(series),
        width=width,
    ), ""


def _window(seconds: float) -> float:
    """The shortest readable window that keeps the table short, s."""
    return next((float(size) for size in (1, 2, 5, 10, 30, 60, 300) if seconds / size <= _MOST_WINDOWS), 600.0)


def _marks(drill: DrillRecord, start: float) -> drawing.Marks:
    """Steps, fault and bounds on the axis of the load, whose zero is `start`, monotonic s."""
    steps, at = [], drill.started - start
    for step in drill.steps:
        steps.append(drawing.Span(step.name.replace("_", " "), at, at + step.seconds))
        at += step.seconds
    fault = drill.fault
    span = deadline = None
    if fault is not None:
        since = fault.start - start
        span = drawing.Span(fault.name, since, math.inf if fault.end is None else fault.end - start)
        recovery = (verdict for verdict in drill.verdicts if verdict.promise.endswith("-recovery"))
        deadline = next((drawing.Level(f"{verdict.promise} bound", since + verdict.bound) for verdict in recovery), None)
    return drawing.Marks(
        steps=tuple(steps),
        fault=span,
        deadline=deadline,
        latency=tuple(
            drawing.Level(f"{verdict.promise} {show_bound(verdict.bound, verdict.unit)}", verdict.bound)
            for verdict in drill.verdicts
            if verdict.promise.startswith("latency-")
        ),
        rate=tuple(
            drawing.Level(show_bound(verdict.bound, verdict.unit), verdict.bound)
            for verdict in drill.verdicts
            if verdict.unit is Unit.PER_SECOND
        ),
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
