"""`junit.xml`: one suite per drill, one case per verdict, in the dialect that CI systems read.

A broken promise is a failure. Inconclusive and error are errors: a system that knows only passed and failed must never read
them as passed. What no verdict shows (a drill without one, a failed step, an exit code that is not 0) gets a case of its own.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sre.clock import iso
from sre.errors import ExitCode
from sre.evidence.schema import DrillRecord, RunRecord
from sre.evidence.text import finding_line, one_line, reason, step_line
from sre.units import show_bound
from sre.verdict import Outcome, Verdict


def render(record: RunRecord) -> str:
    """The document for a run."""
    root = ET.Element("testsuites", name=one_line(record.title))
    for drill in record.drills:
        _drill(root, drill)
    if root.find(".//failure") is None and root.find(".//error") is None and not _passed(record):
        suite = ET.SubElement(
            root, "testsuite", name="run", timestamp=_stamp(record.started), time=f"{record.ended - record.started:.3f}"
        )
        meaning = f"exit code {record.exit_code}: {ExitCode(record.exit_code).meaning}"
        _case(suite, "run", record.id, record.outcome if record.outcome is not Outcome.KEPT else Outcome.ERROR, meaning)
    for element in (*root, root):
        element.set("tests", str(len(element.findall(".//testcase"))))
        element.set("failures", str(len(element.findall(".//failure"))))
        element.set("errors", str(len(element.findall(".//error"))))
        element.set("skipped", "0")
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _passed(record: RunRecord) -> bool:
    return bool(record.drills) and record.outcome is Outcome.KEPT and record.exit_code == ExitCode.KEPT


def _drill(root: ET.Element, drill: DrillRecord) -> None:
    seconds = f"{drill.ended - drill.started:.3f}"
    suite = ET.SubElement(root, "testsuite", name=drill.name, timestamp=_stamp(drill.started_wall), time=seconds)
    for verdict in drill.verdicts:
        _case(suite, drill.name, verdict.promise, verdict.outcome, _message(verdict))
    if all(verdict.outcome is not drill.outcome for verdict in drill.verdicts):
        _case(suite, drill.name, "steps", drill.outcome, reason(drill))
    lines = [step_line(step) for step in drill.steps] + [finding_line(finding) for finding in drill.findings]
    ET.SubElement(suite, "system-out").text = "\n".join(lines)


def _case(suite: ET.Element, group: str, name: str, outcome: Outcome, message: str) -> None:
    # One measurement yields all verdicts of a drill, so a case has no duration of its own.
    case = ET.SubElement(suite, "testcase", classname=f"sre.{group}", name=name, time="0")
    if outcome is not Outcome.KEPT:
        tag = "failure" if outcome is Outcome.BROKEN else "error"
        ET.SubElement(case, tag, type=outcome.value, message=message).text = message


def _message(verdict: Verdict) -> str:
    bound = show_bound(verdict.bound, verdict.unit)
    return f"{verdict.line()} ({verdict.comparison} {bound}, n {verdict.n:,}): {one_line(verdict.why)}"


def _stamp(wall: float) -> str:
    return iso(wall).removesuffix("Z")
