"""`sre slo`: where the objectives stand."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import Settings
from sre.errors import UsageError


def slo(
    window: Annotated[str, typer.Option(help="How far back, for example 1h or 30d.")] = "1h", as_json: AsJson = False
) -> None:
    """Show the state of every objective, as Prometheus counts it right now."""
    from sre.slo.state import standings
    from sre.targets.local.target import attach
    from sre.units import show, show_bound
    from sre.verdict import combine

    if not re.fullmatch(r"[1-9]\d*[smhdw]", window):
        raise UsageError(f"window {window!r} is not understood; write for example 30m, 1h or 30d")
    settings = Settings()
    found = standings(attach(settings.home, settings.tools).endpoints.prometheus, window)
    outcome = combine(item.outcome for item in found)
    rows = []
    for item in found:
        objective = item.objective
        budget = "" if item.budget_left is None else f"{item.budget_left * 100:.1f} %"
        rows.append(
            (
                objective.name,
                f"{objective.comparison} {show_bound(objective.bound, objective.unit)}",
                show(item.measured, objective.unit, objective.comparison),
                budget,
                item.outcome.upper(),
            )
        )
    if as_json:
        names = ("objective", "bound", "measured", "budget_left", "outcome")
        output.document("sre.slo/1", {"window": window, "objectives": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        output.table(("objective", "bound", f"last {window}", "budget left", "state"), rows)
    raise typer.Exit(outcome.exit_code)
