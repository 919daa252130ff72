"""The results for people and machines: a table on the terminal, one JSON document, one HTML file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.bench.figures import Results, Row
from tests.bench.goals import Judged

SCHEMA = "ml.bench/3"
_FILE_WIDTH = 200  # where the table goes to a file, no line of it is folded
_COLUMNS = ("rps", "p50_ms", "p95_ms", "p99_ms", "cpu_us", "pss_mb")
_STYLES = {"REACHED": "bold green", "MISSED": "bold red", "INCONCLUSIVE": "bold yellow"}


def show(value: float | None, unit: str, *, up: bool) -> str:
    """A value with its unit, rounded against ourselves in its third digit; `up` where larger is worse."""
    if value is None or not math.isfinite(value):
        return "no data"
    if unit == "share":
        return show(value * 100, "%", up=up)
    if value == 0 or unit in ("requests", "processes"):
        return f"{value:,.0f} {unit}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    rounded = (math.ceil if up else math.floor)(round(value / step, 6)) * step
    return f"{rounded:,.{max(0, -round(math.log10(step)))}f} {unit}"


def show_goal(judged: Judged) -> tuple[str, str]:
    """Measured and bound."""
    up, goal = judged.goal.comparison == "<=", judged.goal
    bound = f"{goal.bound * 100:g} %" if goal.unit == "share" else f"{goal.bound:.3g} {goal.unit}"
    return show(judged.measured, goal.unit, up=up), f"{'≤' if up else '≥'} {bound}"


def document(results: Results, judged: Sequence[Judged], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "schema": SCHEMA,
        "environment": dict(environment),
        "goals": [
            {
                **{name: getattr(item.goal, name) for name in ("id", "group", "sentence", "comparison", "bound", "unit")},
                "measured": item.measured, "outcome": item.word.lower(), "why": item.why,
            }
            for item in judged
        ],
        "rows": [{**asdict(row), "median": medians(row)} for row in results.rows.values()],
        "figures": results.figures,
        "open_loop": results.shown,
        "remarks": results.remarks,
    }  # fmt: skip


def medians(row: Row) -> dict[str, float]:
    """The figures that are judged; empty for a row without rounds."""
    return {name: row.median(name) for name in _COLUMNS} if row.rounds else {}


def terminal(results: Results, judged: Sequence[Judged], environment: Mapping[str, Any]) -> None:
    """Print rows, goals and remarks on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("row", "req/s", "P50 ms", "P95 ms", "P99 ms", "CPU us", "PSS MB"):
        table.add_column(name, justify="left" if name == "row" else "right")
    for row in results.rows.values():
        found = medians(row)
        cells = (
            [f"{found[name]:,.{1 if name.endswith('_ms') else 0}f}" for name in _COLUMNS]
            if found
            else [f"failed: {row.failed[:60]}"]
        )
        table.add_row(row.key, *cells)
    console.print(table)
    lines = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("", "goal", "measured", "bound", "what"):
        lines.add_column(name, justify="right" if name in ("measured", "bound") else "left")
    for item in judged:
        lines.add_row(
            Text(item.word, _STYLES[item.word]),
            item.goal.id,
            *show_goal(item),
            item.goal.sentence + (f" ({item.why})" if item.why else ""),
        )
    console.print(lines)
    for remark in results.remarks:
        console.print(Text(f"remark  {remark}"))
    for name, versions in environment["versions"].items():
        console.print(Text(f"{name}: {', '.join(f'{package} {version}' for package, version in versions.items())}"))


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a plot, in user units of its drawing."""

    label: str
    y: float
    width: float
    value: str
    kind: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars of one comparison; `value` labels stand at their ends."""

    title: str
    bars: list[Bar]
    height: float


LEFT, ROOM, LINE = 250.0, 640.0, 26.0


def plots(results: Results) -> list[Plot]:
    """Requests a second by model, longest bar first; CPU time a request for the tutorials."""
    chosen = (
        ("ResNet-8, 256 x 256 JPEG: requests a second", "rps", "/s", ("resnet/ours", "resnet/lent", "resnet/bare/hot")),
        ("Two one-process replicas: requests a second", "rps", "/s", ("resnet/replicas",)),
        ("CPU time a request, peers as their tutorials have it", "cpu_us", "us", ("resnet/ours/fp32", "resnet/tutorial")),
        ("MobileNetV3-small, 480 x 360 JPEG: requests a second", "rps", "/s", ("mobilenet/ours", "mobilenet/lent")),
    )
    found = []
    for title, field, unit, prefixes in chosen:
        rows = [row for row in results.rows.values() if row.rounds and row.key.startswith(prefixes)]
        if len(rows) < 2:
            continue
        rows.sort(key=lambda row: row.median(field), reverse=field == "rps")
        most = max(row.median(field) for row in rows)
        bars = [
            Bar(row.title, index * LINE, row.median(field) / most * ROOM, f"{row.median(field):,.0f} {unit}",
                "ours" if "/ours" in row.key else "bare" if "/bare/" in row.key else "peer")
            for index, row in enumerate(rows)
        ]  # fmt: skip
        found.append(Plot(title, bars, len(bars) * LINE + 4))
    return found


def html(results: Results, judged: Sequence[Judged], environment: Mapping[str, Any], began: str) -> str:
    """One offline file without script or external asset, in the style of the toolkit's own report."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = PackageLoader("sre.evidence").get_source(jinja, "report.css")[0]
    missed = [item for item in judged if not item.reached]
    return jinja.get_template("report.html.j2").render(
        css=Markup(css),  # noqa: S704 - our own file
        began=began,
        missed=missed,
        judged=[(item, *show_goal(item)) for item in judged],
        rows=[(row, medians(row)) for row in results.rows.values()],
        columns=_COLUMNS,
        plots=plots(results),
        left=LEFT, room=ROOM, line=LINE,
        shown=[(name, json.dumps(found, indent=1)) for name, found in results.shown.items()],
        figures=sorted(results.figures.items()),
        remarks=results.remarks,
        environment=environment,
    )  # fmt: skip
