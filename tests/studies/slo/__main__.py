"""The study of error budgets: are they what a ledger says, and are their alerts right? It goes on where it stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sre.config import PROJECT, Settings
from sre.errors import ExitCode
from tests.studies.journal import Journal
from tests.studies.slo import alerts, ledger, report

_LONG, _SHORT = (3, 30, 300, 100), (1, 3, 60, 10)


def main(
    short: Annotated[bool, typer.Option("--short", help="What fits into a minute.")] = False,  # noqa: FBT002 - typer's flag
    journal: Annotated[Path | None, typer.Option(help="Of this study; below evidence when left out.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report with its plots here.")] = None,
) -> None:
    """Run what is missing of the study, print what it shows, and fail when a goal is missed."""
    ledgers, days, quiet_months, busy_months = _SHORT if short else _LONG
    file = journal or PROJECT / "evidence" / f"slo-study{'-short' if short else ''}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = Journal(file, "sre.study-slo/1")
    kept = done.results("ledger", range(ledgers), lambda seed: ledger.run(seed, days, Settings().tools))
    quiet = done.results("quiet", range(quiet_months), alerts.quiet_month)
    busy = done.results("busy", range(busy_months), alerts.busy_month)
    findings = [report.ledger_finding(kept), *report.low_traffic_findings(quiet), report.formula_finding()]
    rows = report.quality(busy)
    typer.echo(report.text(findings, rows), nl=False)
    if html is not None:
        html.write_text(report.html(findings, rows, report.plots(quiet, busy)), encoding="utf-8")
    sys.exit(ExitCode.KEPT if all(one.met for one in findings) else ExitCode.BROKEN)


if __name__ == "__main__":
    typer.run(main)
