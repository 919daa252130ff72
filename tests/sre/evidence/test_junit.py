from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest

from sre.evidence import junit
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.verdict import Outcome, Verdict


def _tree(record: RunRecord) -> ET.Element:
    return ET.fromstring(junit.render(record).encode())  # noqa: S314 (our own document)


def _counts(element: ET.Element) -> tuple[str | None, ...]:
    return tuple(element.get(name) for name in ("tests", "failures", "errors", "skipped"))


def test_one_suite_per_drill_and_one_case_per_verdict(make_run: Callable[..., RunRecord]) -> None:
    root = _tree(make_run())
    assert root.tag == "testsuites"
    assert _counts(root) == ("2", "1", "0", "0")
    (suite,) = root.findall("testsuite")
    assert (suite.get("name"), suite.get("timestamp"), suite.get("time")) == ("pod-recovery", "2026-01-01T11:59:59.600", "61.600")
    kept, broken = suite.findall("testcase")
    assert (kept.get("classname"), kept.get("name"), len(kept)) == ("sre.pod-recovery", "pod-recovery", 0)
    failure = broken.find("failure")
    assert failure is not None
    assert failure.get("type") == "broken"
    assert failure.text is not None
    assert failure.text.startswith("99.41 % of 99.9 % (>= 99.9 %, n 60,211): 354 of 60,211")
    assert "SIGKILL serving-2" in suite.findtext("system-out", "")


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_what_was_not_measured_never_reads_as_passed(
    make_run: Callable[..., RunRecord],
    make_drill: Callable[..., DrillRecord],
    make_verdict: Callable[..., Verdict],
    outcome: Outcome,
) -> None:
    root = _tree(make_run(drills=(make_drill(outcome=outcome, verdicts=(make_verdict(outcome=outcome),)),)))
    assert _counts(root) == ("1", "0", "1", "0")
    error = root.find(".//error")
    assert error is not None
    assert error.get("type") == outcome


def test_a_drill_without_a_verdict_is_an_error(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord]
) -> None:
    failed = StepRecord(name="preflight", seconds=1.0, result="failed", detail="no system is up\x00")
    root = _tree(make_run(drills=(make_drill(outcome=Outcome.ERROR, verdicts=(), steps=(failed,), findings=("odd\x1b",)),)))
    assert _counts(root) == ("1", "0", "1", "0")
    assert root.findtext(".//error") == "preflight: no system is up"


@pytest.mark.parametrize(("exit_code", "outcome"), [(6, Outcome.KEPT), (130, Outcome.KEPT), (5, Outcome.INCONCLUSIVE)])
def test_an_exit_code_that_no_verdict_explains_is_an_error(
    make_run: Callable[..., RunRecord],
    make_drill: Callable[..., DrillRecord],
    make_verdict: Callable[..., Verdict],
    exit_code: int,
    outcome: Outcome,
) -> None:
    drills = () if exit_code == 5 else (make_drill(outcome=Outcome.KEPT, verdicts=(make_verdict(),)),)
    root = _tree(make_run(exit_code=exit_code, outcome=outcome, drills=drills))
    assert _counts(root)[1:] == ("0", "1", "0")
    assert f"exit code {exit_code}" in root.findtext(".//error", "")


def test_a_kept_run_has_no_failure_and_no_error(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], make_verdict: Callable[..., Verdict]
) -> None:
    drill = make_drill(outcome=Outcome.KEPT, verdicts=(make_verdict(),))
    assert _counts(_tree(make_run(outcome=Outcome.KEPT, exit_code=0, drills=(drill,)))) == ("1", "0", "0", "0")
