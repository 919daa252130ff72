"""A run as lines of text, from its record alone: the same bytes on every machine and in every year.

    pod-recovery   promise: a killed replica serves again in under 30 s   target: local
      steady          12.0 s   1,043 req/s   p95 61 ms   errors 0.00 %              ok
      recover          6.4 s   3 of 3 ready, held 10 s                              ok
    KEPT          pod-recovery      6.4 s of 30 s          n 1       every replica ready again
    exit      0: every promise was kept
    evidence  evidence/20260101T120000Z-pod-recovery/report.html

The functions for single lines serve the narration of a run under way.
"""

from __future__ import annotations

import re

from rich.text import Text

from sre.errors import ExitCode
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.verdict import Verdict

STYLES = {
    "KEPT": "bold green",
    "BROKEN": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "ERROR": "bold magenta",
    "ok": "green",
    "failed": "bold red",
    "skipped": "dim",
    "proven": "green",
    "red:": "bold red",
}
_WORD = re.compile(r"^(KEPT|BROKEN|INCONCLUSIVE|ERROR)\b|\b(ok|failed|skipped)$")


def run_text(record: RunRecord) -> str:
    """The whole text of a run, ending in a newline."""
    return "\n".join(_lines(record)) + "\n"


def run_rich(record: RunRecord) -> Text:
    """`run_text` for a terminal: the same characters, with colour on the words that carry an outcome."""
    return Text("\n").join(styled(line) for line in _lines(record))


def result_rich(record: RunRecord) -> Text:
    """The end of `run_rich`, for whoever has watched the steps: findings, verdicts, exit code, evidence."""
    findings = [finding_line(f"{drill.name}: {finding}") for drill in record.drills for finding in drill.findings]
    return Text("\n").join(styled(line) for line in [*findings, *_results(record)])


def styled(line: str) -> Text:
    """One line with colour on its outcome word; for a line of narration too."""
    coloured = Text(line, no_wrap=True)
    for match in _WORD.finditer(line):
        coloured.stylize(STYLES[match[0]], *match.span())
    return coloured


def header_line(drill: str, sentence: str, target: str) -> str:
    """The first line of a drill."""
    return one_line(f"{drill}   promise: {sentence}   target: {target}")


def step_line(step: StepRecord) -> str:
    """One step: name, duration, what it saw, result."""
    return f"  {step.name.replace('_', ' '):<14}{step.seconds:>7,.1f} s   {one_line(step.detail):<62}  {step.result}"


def verdict_line(verdict: Verdict) -> str:
    """One verdict: outcome, promise, measured against bound, sample count, reason."""
    columns = f"{verdict.outcome.upper():<12}  {verdict.promise:<16}  {verdict.line():<22}  n {verdict.n:<8,}"
    return f"{columns}  {one_line(verdict.why)}".rstrip()


def finding_line(finding: str) -> str:
    """One finding."""
    return f"  finding       {one_line(finding)}"


def one_line(text: str) -> str:
    """`text` on one line and without control characters, so that a tool's own output cannot move the cursor or colour ours."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _lines(record: RunRecord) -> list[str]:
    lines: list[str] = []
    for drill in record.drills:
        lines.append(header_line(drill.name, drill.sentence, record.target))
        lines += [step_line(step) for step in drill.steps]
        lines += [finding_line(finding) for finding in drill.findings]
    return lines + _results(record)


def _results(record: RunRecord) -> list[str]:
    lines: list[str] = []
    for drill in record.drills:
        lines += [verdict_line(verdict) for verdict in drill.verdicts]
        lines += _without_verdict(drill)
    lines.append(f"exit      {record.exit_code}: {ExitCode(record.exit_code).meaning}")
    lines.append(f"evidence  evidence/{record.id}/report.html")
    return lines


def _without_verdict(drill: DrillRecord) -> list[str]:
    """The line of a drill that ended worse than its verdicts say, so that none is passed over."""
    if any(verdict.outcome is drill.outcome for verdict in drill.verdicts):
        return []
    return [f"{drill.outcome.upper():<12}  {drill.name:<16}  {reason(drill)}"]


def reason(drill: DrillRecord) -> str:
    """Why a drill ended without a verdict: its first failed step, or that there was none."""
    failed = (f"{step.name.replace('_', ' ')}: {one_line(step.detail)}" for step in drill.steps if step.result == "failed")
    return next(failed, "no verdict was reached")
