"""Geometry of the plot of evidence over time: numbers in, positions out. The template draws them and knows no arithmetic.

Two panels share one time axis: the evidence that rolls back, and each metric's evidence for a promotion, both as e-values on a
logarithmic scale with their threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sre.canary.judge import Judged
from sre.canary.plan import Plan
from sre.canary.view import e_value, percent
from sre.evidence.chart import Box, Scale, Span, Tick, box, round_ticks

_LEFT, _RIGHT, _RIBBON, _TITLE, _HEIGHT, _GAP, _AXIS = 58.0, 12.0, 20.0, 20.0, 150.0, 14.0, 34.0
_MOST_POINTS = 240
_LEAST, _MOST = -2.0, 12.0  # powers of ten that are drawn at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: its frame, grid, threshold and lines (`style`, name, SVG path data)."""

    title: str
    top: float
    height: float
    ticks: tuple[Tick, ...]
    threshold: Tick
    lines: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Everything that the template draws, in SVG user units; `gaps` are looks without data."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    panels: tuple[Panel, ...]
    stages: tuple[Box, ...]
    gaps: tuple[float, ...]
    times: tuple[Tick, ...]
    summary: str


def plot(plan: Plan, judged: Sequence[Judged], pixels: float) -> Plot | None:
    """Lay out the plot; None when there is no look.

    Args:
        plan: of the canary.
        judged: looks with a control, in order.
        pixels: width of the drawing, in SVG user units.
    """
    if not judged:
        return None
    start = judged[0].interval.start
    end = judged[-1].interval.end - start
    across = Scale(start, start + end, _LEFT, pixels - _RIGHT)
    points = _thinned(judged)
    xs = [across(one.interval.end) for one in points]
    top = _RIBBON + _TITLE + 8
    worse = _panel(
        "Evidence that the canary is worse, of all metrics together: rolls back at the threshold", top, xs,
        [("together", [one.standing.log_e_rollback for one in points])], judged[0].standing.rollback_at,
    )  # fmt: skip
    names = [metric.name for metric in judged[0].standing.metrics if metric.log_e_fine is not None]
    fine = [(name, [_fine(one, name) for one in points]) for name in names]
    top += _HEIGHT + _GAP + _TITLE
    title = "Evidence that it is within margin and objective, by metric: promotes when all are at the threshold"
    second = _panel(title, top, xs, fine, judged[0].standing.promote_at)
    bottom = top + _HEIGHT
    return Plot(
        width=pixels, height=bottom + _AXIS, left=_LEFT, right=pixels - _RIGHT, bottom=bottom, panels=(worse, second),
        stages=tuple(_stages(plan, judged, across)),
        gaps=tuple(across(one.interval.end) for one in points if one.interval.missing),
        times=tuple(Tick(across(start + at), f"{at:g} s") for at in round_ticks(end, max(2, int(pixels / 110)))),
        summary=_summary(judged),
    )  # fmt: skip


def rows(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """The plot as text, one row per drawn look: time, stage, action, both kinds of evidence, reason."""
    start = judged[0].interval.start if judged else 0.0
    found: list[tuple[str, ...]] = []
    for one in _thinned(judged):
        fine = [metric.log_e_fine for metric in one.standing.metrics if metric.log_e_fine is not None]
        found.append((
            f"{one.interval.end - start:,.0f} s", str(one.interval.stage + 1), one.action.value,
            e_value(one.standing.log_e_rollback), e_value(min(fine)) if fine else "", one.why,
        ))  # fmt: skip
    return found


def _summary(judged: Sequence[Judged]) -> str:
    last = judged[-1]
    most = max(one.standing.log_e_rollback for one in judged)
    blind = sum(bool(one.interval.missing) for one in judged)
    return (
        f"{len(judged)} looks in {last.interval.end - judged[0].interval.start:,.0f} s; evidence for a rollback at most "
        f"{e_value(most)} of {e_value(last.standing.rollback_at)}; the last look says {last.action}; {blind} looks lacked data."
    )


def _thinned(judged: Sequence[Judged]) -> list[Judged]:
    """At most so many looks, of each bunch the one with the most evidence for a rollback, and the last."""
    size = math.ceil(len(judged) / _MOST_POINTS)
    bunches = (judged[at : at + size] for at in range(0, len(judged), size)) if judged else iter(())
    chosen = [max(bunch, key=lambda one: one.standing.log_e_rollback) for bunch in bunches]
    return chosen if not judged or chosen[-1] is judged[-1] else [*chosen, judged[-1]]


def _fine(one: Judged, name: str) -> float:
    return next(metric.log_e_fine or 0.0 for metric in one.standing.metrics if metric.name == name)


def _panel(title: str, top: float, xs: Sequence[float], lines: Sequence[tuple[str, list[float]]], threshold: float) -> Panel:
    tens = [(name, [value / math.log(10.0) for value in values]) for name, values in lines]
    at = threshold / math.log(10.0)
    high = min(max([at, *(value for _, values in tens for value in values)]) + 0.5, _MOST)
    low = max(min([0.0, *(value for _, values in tens for value in values)]) - 0.25, _LEAST)
    up = Scale(low, high, top + _HEIGHT, top)
    step = 1 if high - low <= 5 else 2
    grid = [power for power in range(math.ceil(low), math.floor(high) + 1) if power % step == 0]
    drawn = tuple(
        (f"m{number % 6}", name, "M" + "L".join(f"{x} {up(value)}" for x, value in zip(xs, values, strict=True)) + "h.1")
        for number, (name, values) in enumerate(tens)
    )
    ticks = tuple(Tick(up(power), f"{10.0**power:,.10g}" if power < 5 else f"1e{power}") for power in grid)
    return Panel(
        title=title, top=top, height=_HEIGHT, ticks=ticks,
        threshold=Tick(up(at), f"threshold {e_value(threshold)}"), lines=drawn,
    )  # fmt: skip


def _stages(plan: Plan, judged: Sequence[Judged], across: Scale) -> list[Box]:
    found = []
    for index, stage in enumerate(plan.stages):
        of = [one.interval for one in judged if one.interval.stage == index]
        if of:
            found.append(box(Span(percent(stage.weight), of[0].start, of[-1].end), across))
    return found
