"""The report of objectives: what is left, how fast it goes, until when it lasts, and what it went on. One offline HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sre.clock import iso
from sre.judges.budget import Burn
from sre.slo import plot
from sre.slo.policy import Answer, Ruling
from sre.slo.standing import Alarm, Standing, Unknown
from sre.slo.windows import DAY_S, HOUR_S, MINUTE_S
from sre.units import Comparison, Unit, show, show_bound

_PIXELS = {"wide": 1000.0, "narrow": 420.0}
_STYLES = {"SHIP": "kept", "SLOW": "inconclusive", "FREEZE": "broken", "UNKNOWN": "error"}
_SENTENCES = {
    "SHIP": "There is budget: ship.",
    "SLOW": "Ship slowly: one change at a time, none of high risk.",
    "FREEZE": "Frozen: only what mends the service ships.",
    "UNKNOWN": "Nobody knows whether there is budget.",
}


COLUMNS = ("objective", "promised", "measured", "budget left", "burn 1 h", "lasts", "incidents", "decision")


def lines(standings: Sequence[Standing | Unknown], answer: Answer) -> list[tuple[str, ...]]:
    """The report as a table with COLUMNS."""
    found: list[tuple[str, ...]] = []
    for standing, ruling in zip(standings, answer.rulings, strict=True):
        promised = show_bound(standing.objective.target, Unit.RATIO)
        if isinstance(standing, Unknown):
            figures = (show(None, Unit.RATIO), "", "", "", "")
        else:
            budget = standing.budget
            figures = (
                show(budget.good, Unit.RATIO, Comparison.AT_LEAST), show(budget.left, Unit.RATIO, Comparison.AT_LEAST),
                f"{standing.account.burn(HOUR_S, standing.at).rate:.2f}", lasts(standing.forecast.expected),
                f"{len(standing.incidents)}",
            )  # fmt: skip
        found.append((ruling.objective, promised, *figures, ruling.decision.value))
    return found


def document(standings: Sequence[Standing | Unknown], answer: Answer) -> dict[str, Any]:
    """The report as plain values; infinite times are null."""
    return {
        "at": iso(answer.at),
        "decision": answer.decision.value,
        "starts": answer.starts,
        "reasons": list(answer.reasons),
        "objectives": [_plain(standing, ruling) for standing, ruling in zip(standings, answer.rulings, strict=True)],
    }


def render(standings: Sequence[Standing | Unknown], answer: Answer, title: str) -> str:
    """The report as HTML, without script and without external asset.

    Args:
        standings: of every objective.
        answer: of the policy, its rulings in the order of `standings`.
        title: for people.
    """
    environment = Environment(
        loader=PackageLoader("sre.slo"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    css = PackageLoader("sre.evidence").get_source(environment, "report.css")[0]
    sections = [_section(standing, ruling) for standing, ruling in zip(standings, answer.rulings, strict=True)]
    return environment.get_template("slo.html.j2").render(
        css=Markup(css),  # noqa: S704 (our own file)
        title=title,
        at=plot.minute(answer.at),
        decision=answer.decision,
        sentence=_SENTENCES[answer.decision],
        reasons=answer.reasons,
        styles=_STYLES,
        sections=sections,
    )


def lasts(seconds: float) -> str:
    """When a budget will be spent: `in 3.2 d`, `never`, `spent`."""
    if not seconds:
        return "spent"
    if math.isinf(seconds):
        return "never"
    size, name = next(((size, name) for size, name in ((DAY_S, "d"), (HOUR_S, "h")) if seconds >= size), (MINUTE_S, "min"))
    return f"in {math.floor(seconds / size * 10) / 10:g} {name}"


def _section(standing: Standing | Unknown, ruling: Ruling) -> dict[str, Any]:
    if isinstance(standing, Unknown):
        return {"ruling": ruling, "objective": standing.objective, "why": standing.why}
    drawn = plot.curve(standing) if standing.budget.total else None
    return {
        "ruling": ruling,
        "objective": standing.objective,
        "why": "",
        "figures": _figures(standing),
        "alarms": [_alarm(alarm) for alarm in standing.alarms],
        "incidents": [
            (plot.minute(one.start), plot.minute(one.end), f"{one.bad:,.0f}", show(one.cost, Unit.RATIO), one.large)
            for one in standing.incidents
        ],
        "plots": [] if drawn is None else [(name, plot.plot(standing, drawn, pixels)) for name, pixels in _PIXELS.items()],
        "summary": "" if drawn is None else plot.summary(standing, drawn),
        "rows": [] if drawn is None else plot.rows(drawn),
        "queries": standing.reading.queries,
    }


def _figures(standing: Standing) -> list[tuple[str, str]]:
    budget, forecast, objective = standing.budget, standing.forecast, standing.objective
    unit = "events" if objective.slice_s is None else f"slices of {objective.slice_s:g} s"
    spent = show(budget.spent, Unit.RATIO)
    if budget.interval is not None:
        low, high = (show(end, Unit.RATIO) for end in budget.interval)
        spent += f", 95 % interval of the service's own rate {low} to {high}"
    days = standing.account.goal.period / DAY_S
    period = f"in the calendar period of {days:g} days" if objective.calendar else f"in the last {days:g} days"
    good = show(budget.good, Unit.RATIO, Comparison.AT_LEAST)
    pace = f"{lasts(forecast.expected)} at the pace of the last {forecast.window / HOUR_S:g} h"
    how = "differences of raw samples" if standing.reading.exact else "computed by Prometheus"
    covered = show(budget.covered, Unit.RATIO, Comparison.AT_LEAST)
    return [
        ("promised", f"{show_bound(objective.target, Unit.RATIO)} good, {period}"),
        ("measured", f"{good} good: {budget.bad:,.6g} bad of {budget.total:,.0f} {unit}"),
        ("budget left", show(budget.left, Unit.RATIO, Comparison.AT_LEAST)),
        ("budget spent", spent),
        ("lasts", f"{pace} (earliest {lasts(forecast.earliest)}, latest {lasts(forecast.latest)})"),
        ("counts", f"{how}, over {covered} of the period so far; {standing.reading.resets} counters began again"),
    ]


def _alarm(alarm: Alarm) -> tuple[str, str, str, str, str, bool]:
    def rate(burn: Burn) -> str:
        if burn.interval is None:
            return f"{burn.rate:.2f}"
        return f"{burn.rate:.2f} ({burn.interval[0]:.2f} to {burn.interval[1]:.2f})"

    window = alarm.window
    return (
        window.severity.value, f"{window.long_s / HOUR_S:g} h and {window.short_s / MINUTE_S:g} min", f"{window.factor:.4g}",
        rate(alarm.long), rate(alarm.short), alarm.on,
    )  # fmt: skip


def _plain(standing: Standing | Unknown, ruling: Ruling) -> dict[str, Any]:
    objective = standing.objective
    head = {
        "service": objective.service, "objective": objective.name, "target": objective.target,
        "decision": ruling.decision.value, "reasons": list(ruling.reasons),
    }  # fmt: skip
    if isinstance(standing, Unknown):
        return head
    budget, forecast = standing.budget, standing.forecast
    return head | {
        "budget": {
            "bad": budget.bad, "total": budget.total, "good": budget.good, "spent": budget.spent, "left": budget.left,
            "interval": budget.interval, "covered": budget.covered,
        },
        "burn": [
            {
                "severity": alarm.window.severity.value, "long_s": alarm.window.long_s, "short_s": alarm.window.short_s,
                "factor": alarm.window.factor, "long": alarm.long.rate, "long_interval": alarm.long.interval,
                "short": alarm.short.rate, "firing": alarm.on,
            }
            for alarm in standing.alarms
        ],
        "spent_in_s": {
            name: None if math.isinf(value) else value
            for name, value in (("expected", forecast.expected), ("earliest", forecast.earliest), ("latest", forecast.latest))
        },
        "incidents": [
            {"start": iso(one.start), "end": iso(one.end), "bad": one.bad, "cost": one.cost, "large": one.large}
            for one in standing.incidents
        ],
        "exact": standing.reading.exact,
        "resets": standing.reading.resets,
    }  # fmt: skip
