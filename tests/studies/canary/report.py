"""The study for people and machines: tables on the terminal, one JSON document, one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

from tests.studies.canary import users
from tests.studies.canary.cells import ALPHA
from tests.studies.canary.figures import Figure
from tests.studies.canary.goals import SLACK, Judged, Word
from tests.studies.canary.head import JUDGES, SCENARIOS
from tests.studies.canary.journal import Result

SCHEMA = "sre.canary-study/1"
Results = Mapping[str, Result]


def show(value: float, unit: str, *, up: bool) -> str:
    """A value with its unit, rounded against ourselves in its third digit; `up` where larger is worse."""
    if math.isinf(value):
        return "never" if value > 0 else "unknown"
    scaled, name = (value * 100, "%") if unit == "share" else (value, unit)
    if scaled == 0:
        return f"0 {name}"
    step = 10.0 ** (math.floor(math.log10(abs(scaled))) - 2)
    rounded = (math.ceil if up else math.floor)(round(scaled / step, 6)) * step
    return f"{rounded:,.{max(0, -round(math.log10(step)))}f} {name}"


def line(judged: Judged) -> tuple[str, str, str]:
    """Measured value, its far bound of 99 per cent, and the goal's bound."""
    goal, found = judged.goal, judged.found
    up = goal.bound.comparison == "<="
    bound = f"{goal.bound.value * 100:g} %" if goal.bound.unit == "share" else f"{goal.bound.value:g} {goal.bound.unit}"
    wanted = f"{'≤' if up else '≥'} {bound}"
    if found is None:
        return "not run", "", wanted
    return show(found.value, goal.bound.unit, up=up), show(found.high if up else found.low, goal.bound.unit, up=up), wanted


def sentence(judged: Sequence[Judged]) -> str:
    """How the study ended."""
    counts = {word: sum(item.word is word for item in judged) for word in Word}
    return f"{counts[Word.REACHED]} of {len(judged)} goals reached, {counts[Word.MISSED]} missed, {counts[Word.OPEN]} open"


def rows(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """The table of goals: outcome, id, sentence, measured, far bound, bound, runs."""
    return [
        (item.word.value, item.goal.id, item.goal.sentence, *line(item), f"{item.found.n:,}" if item.found else "")
        for item in judged
    ]


def head(results: Results) -> list[tuple[str, ...]]:
    """Head to head: scenario, then per judge the per cent rolled back, promoted and held."""
    found = []
    for name in SCENARIOS:
        if (result := results.get(f"head-{name}")) is not None:
            cells = [
                " / ".join(f"{100 * result.figures[f'{who}: {what}'].value:.1f}" for what in ("rollback", "promote", "hold"))
                for who in JUDGES
            ]
            found.append((name, *cells))
    return found


def complaints() -> list[tuple[str, ...]]:
    """Users' failing series: issue, what happened, what the reference says, what our gate says."""
    return [(item.issue, item.words, item.said, users.ours(item).value) for item in users.complaints()]


def text(judged: Sequence[Judged], results: Results) -> str:
    """Everything, for a terminal."""
    parts = [
        _table(("", "goal", "what", "measured", "99 % bound", "goal", "runs"), rows(judged)),
        "per cent rolled back / promoted / held\n" + _table(("traffic", *JUDGES), head(results)),
        _table(("issue", "what happened", "reference", "ours"), complaints()),
        sentence(judged),
    ]
    return "\n\n".join(parts) + "\n"


def document(judged: Sequence[Judged], results: Results, settings: Mapping[str, str]) -> dict[str, Any]:
    """Everything, for machines. JSON has no infinity, so what never came is null."""
    return {
        "schema": SCHEMA,
        "settings": dict(settings),
        "goals": [
            {"id": item.goal.id, "sentence": item.goal.sentence, "cell": item.goal.cell, "figure": item.goal.figure,
             "bound": asdict(item.goal.bound), "found": _finite(item.found), "outcome": item.word.lower()}
            for item in judged
        ],
        "cells": {
            cell: {"seconds": result.seconds, "figures": {name: _finite(figure) for name, figure in result.figures.items()}}
            for cell, result in results.items()
        },
    }  # fmt: skip


def _finite(figure: Figure | None) -> dict[str, float | None] | None:
    if figure is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(figure).items()}


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (columns, *lines)
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a plot, in user units: its length, the ends of its interval, and its words."""

    label: str
    y: float
    width: float
    low: float
    high: float
    value: str
    kind: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars of one comparison; `limit` is where the bound lies, None without one."""

    title: str
    bars: list[Bar]
    height: float
    limit: float | None


LEFT, ROOM, LINE = 300.0, 560.0, 26.0


def plots(results: Results) -> list[Plot]:
    """False alarms, times of detection, and who catches what."""
    alarms = {name: result.figures["false rollback"] for name, result in results.items() if "false rollback" in result.figures}
    found = [_plot(f"A/A: rolled back, in per cent; bound {SLACK:g} x {ALPHA:.0%}", alarms, "share", limit=SLACK * ALPHA)]
    for cell, words in (("detect-rest", "control the rest"), ("detect-equal", "equal arms")):
        if (result := results.get(cell)) is not None:
            times = {name: figure for name, figure in result.figures.items() if name.endswith(", s")}
            found.append(_plot(f"Errors: time to find them, canary 100/s, {words}", times, "s"))
    for name in SCENARIOS:
        if (result := results.get(f"head-{name}")) is not None:
            share = {who: result.figures[f"{who}: rollback"] for who in JUDGES}
            found.append(_plot(f"{name}: rolled back", share, "share", limit=None, most=1.0))
    return [plot for plot in found if plot.bars]


def _plot(title: str, figures: Mapping[str, Figure], unit: str, limit: float | None = None, most: float = 0.0) -> Plot:
    ends = [end for figure in figures.values() for end in (figure.value, figure.high) if math.isfinite(end)]
    scale = ROOM / (most or max([*ends, limit or 0.0], default=1.0) or 1.0)

    def at(value: float) -> float:
        return scale * value if math.isfinite(value) else ROOM if value > 0 else 0.0

    bars = [
        Bar(
            name, index * LINE, at(figure.value), at(figure.low), at(figure.high), show(figure.value, unit, up=True),
            "ours" if name.startswith("ours") or unit != "share" or limit is not None else "peer",
        )
        for index, (name, figure) in enumerate(figures.items())
    ]  # fmt: skip
    return Plot(title, bars, len(bars) * LINE + 4, None if limit is None else scale * limit)


def html(judged: Sequence[Judged], results: Results, settings: Mapping[str, str]) -> str:
    """One offline file without script or external asset, in the style of the toolkit's own report."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    css = PackageLoader("sre.evidence").get_source(jinja, "report.css")[0]
    return jinja.get_template("report.html.j2").render(
        css=Markup(css),  # noqa: S704 - our own file
        sentence=sentence(judged),
        missed=[item for item in judged if item.word is not Word.REACHED],
        judged=[(item, *line(item)) for item in judged],
        judges=JUDGES, head=head(results), complaints=complaints(), plots=plots(results), left=LEFT, room=ROOM, line=LINE,
        results=sorted(results.items()), settings=settings,
    )  # fmt: skip
