from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tests.studies.slo import alerts, report
from tests.studies.slo.ledger import LedgerResult


def make_ledger(read_bad: float = 100.0) -> dict[str, Any]:
    return asdict(
        LedgerResult(
            days=30, bad=100.0, total=1e5, read_bad=read_bad, read_total=1e5, spent=1.0, read_spent=read_bad / 100, averaged=None,
            resets=3,
        )
    )  # fmt: skip


def make_quiet(pages: int = 0, found_s: float | None = 600.0) -> dict[str, Any]:
    return {"pages": pages, "naive": 7, "found_s": found_s}


def make_busy() -> dict[str, Any]:
    one = {"significant": 2, "found": 2, "fired": 4, "right": 3, "detection_s": [60.0, 120.0], "reset_s": []}
    return {"windows": [one] * len(alerts.WINDOWS)}


def test_a_ledger_that_is_off_is_a_goal_missed() -> None:
    assert report.ledger_finding([make_ledger()]).met
    missed = report.ledger_finding([make_ledger(), make_ledger(100.2)])
    assert not missed.met
    assert "off by 0.2000% at most" in missed.said


def test_pages_are_bounded_and_not_only_counted() -> None:
    pages, found = report.low_traffic_findings([make_quiet()] * 60)
    assert pages.met
    assert found.met
    assert "at most 0.050 a month" in pages.said
    assert not report.low_traffic_findings([make_quiet()] * 2)[0].met
    assert not report.low_traffic_findings([make_quiet(pages=1)] * 60)[0].met


def test_an_outage_that_is_found_late_or_never_is_a_goal_missed() -> None:
    for late in (7201.0, None):
        assert not report.low_traffic_findings([make_quiet(), make_quiet(found_s=late)])[1].met


def test_the_report_is_text_and_an_offline_page() -> None:
    findings = [report.ledger_finding([make_ledger()]), *report.low_traffic_findings([make_quiet()] * 60)]
    rows = report.quality([make_busy()])
    assert rows[0][1:5] == ("3 of 4", "0.750", "2 of 2", "1.000")
    assert rows[0][5:] == ("2 / 2", "none")
    assert "met S3" in report.text(findings, rows)
    page = report.html(findings, rows, report.plots([make_quiet()], [make_busy()]))
    assert page.count("<svg") == 1 + 2 * len(alerts.WINDOWS)
    assert "http" not in page.partition("<main>")[2]


def test_bars_hold_every_time_once() -> None:
    plot = report.histogram("x", [0.0, 30.0, 60.0, 60.0])
    assert [height for _, height, _ in plot.bars if height] == [0.5, 0.5, 1.0]
    assert plot.last == "1 min"
