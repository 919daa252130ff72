"""Geometry of the report's charts: numbers in, positions out. The template draws them and knows no arithmetic.

Three panels share one time axis: what is left of the budget, how fast it goes, and events with the bad ones among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sre.clock import iso
from sre.evidence.chart import Box, Panel, Scale, Tick, line
from sre.judges.budget import Floats
from sre.slo.standing import Standing
from sre.slo.windows import DAY_S, HOUR_S
from sre.units import Comparison, Unit, show

POINTS = 240
_LEFT, _RIGHT, _TITLE, _GAP, _AXIS = 62.0, 12.0, 24.0, 16.0, 34.0
_HEIGHTS = (170.0, 110.0, 80.0)
_HEADROOM = 1.08
_CROWDED = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What is drawn of an objective, as numbers.

    Attributes:
        at: instants, evenly spread over the part of the period that the counts cover, seconds since the epoch, shape (n,).
        left: share of the budget, shape (n,).
        burn: rate over `window` s, shape (n,).
        events, bad: between an instant and the one before, shape (n,).
    """

    at: Floats
    left: Floats
    burn: Floats
    events: Floats
    bad: Floats
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Everything that the template draws, in SVG user units; `incidents` are shaded."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    panels: tuple[Panel, ...]
    times: tuple[Tick, ...]
    incidents: tuple[Box, ...]
    hovers: tuple[Box, ...]


def curve(standing: Standing, window: float = HOUR_S) -> Curve:
    """Compute what is drawn, in POINTS points."""
    account, at = standing.account, standing.at
    since = max(account.start, account.goal.begin(at))
    moments = np.linspace(since, at, POINTS + 1)
    bad, events = account.sums(moments[:-1], moments[1:])
    return Curve(
        at=moments[1:], left=1 - account.spent(moments[1:]), burn=account.rates(window, moments[1:]), events=events, bad=bad,
        window=window,
    )  # fmt: skip


def plot(standing: Standing, drawn: Curve, pixels: float) -> Plot:
    """Lay the panels out.

    Args:
        standing: whose incidents and limits are marked.
        drawn: from `curve`.
        pixels: width of the drawing, in SVG user units.
    """
    step = float(drawn.at[1] - drawn.at[0])
    since, until = float(drawn.at[0]) - step, float(drawn.at[-1])
    across = Scale(since, until, _LEFT, pixels - _RIGHT)
    tops = [_TITLE, _TITLE + _HEIGHTS[0] + _GAP + _TITLE, 2 * _TITLE + sum(_HEIGHTS[:2]) + 2 * _GAP + _TITLE]
    xs = [across(moment) for moment in drawn.at.tolist()]
    panels = (_left(drawn, xs, tops[0]), _burn(standing, drawn, xs, tops[1]), _events(drawn, xs, across, tops[2]))
    bottom = tops[2] + _HEIGHTS[2]
    size = (pixels - _RIGHT - _LEFT) / len(xs)
    return Plot(
        width=pixels,
        height=bottom + _AXIS,
        left=_LEFT,
        right=pixels - _RIGHT,
        bottom=bottom,
        panels=panels,
        times=_times(since, until, across, max(2, int(pixels / 110))),
        incidents=tuple(
            Box(across(one.start), max(across(one.end) - across(one.start), 1.5), f"incident, {show(one.cost, Unit.RATIO)}", "")
            for one in standing.incidents
        ),
        hovers=tuple(Box(x - size, size, " ".join(row), "") for x, row in zip(xs, rows(drawn), strict=True)),
    )


def rows(drawn: Curve) -> list[tuple[str, ...]]:
    """The curves as text, one row per point: time, budget left, burn rate, events, bad ones."""
    columns = (values.tolist() for values in (drawn.at, drawn.left, drawn.burn, drawn.events, drawn.bad))
    return [
        (minute(at), show(left, Unit.RATIO, Comparison.AT_LEAST), f"{burn:.2f}", f"{events:,.0f}", f"{bad:,.0f}")
        for at, left, burn, events, bad in zip(*columns, strict=True)
    ]


def minute(at: float) -> str:
    """`2026-01-01 12:00`, UTC."""
    return iso(at)[:16].replace("T", " ")


def summary(standing: Standing, drawn: Curve) -> str:
    """The chart in one sentence, for those who do not see it."""
    lowest, fastest = int(np.argmin(drawn.left)), int(np.argmax(drawn.burn))
    least = show(float(drawn.left[lowest]), Unit.RATIO, Comparison.AT_LEAST)
    return (
        f"{drawn.bad.sum():,.0f} bad events of {drawn.events.sum():,.0f}; "
        f"least budget left {least} at {minute(float(drawn.at[lowest]))}; fastest burn {drawn.burn[fastest]:.2f} "
        f"over {drawn.window / HOUR_S:g} h at {minute(float(drawn.at[fastest]))}; "
        f"incidents: {len(standing.incidents)}."
    )


def _left(drawn: Curve, xs: Sequence[float], top: float) -> Panel:
    low = min(0.0, float(drawn.left.min()))
    scale = Scale(low, 1.0, top + _HEIGHTS[0], top)
    ticks = [1.0, 0.5] if low >= -_CROWDED else []  # far below zero their labels would lie on that of zero
    ticks += [0.0, low] if low < -0.05 else []
    return Panel(
        title="Budget left",
        top=top,
        height=_HEIGHTS[0],
        ticks=tuple(Tick(scale(value), f"{value * 100:,.0f} %") for value in ticks),
        bounds=(Tick(scale(0.0), "spent"),),
        paths=(("sent", line(xs, [scale(value) for value in drawn.left.tolist()])),),
        note="",
    )


def _burn(standing: Standing, drawn: Curve, xs: Sequence[float], top: float) -> Panel:
    factors = sorted({alarm.window.factor for alarm in standing.alarms if alarm.window.long_s == drawn.window})
    high = max([1.0, float(drawn.burn.max()), *factors]) * _HEADROOM
    scale = Scale(0.0, high, top + _HEIGHTS[1], top)
    return Panel(
        title=f"Burn rate over {drawn.window / HOUR_S:g} h; 1 spends the budget exactly in its period",
        top=top,
        height=_HEIGHTS[1],
        ticks=tuple(Tick(scale(value), f"{value:,.9g}") for value in (0.0, _round(high / 2), _round(high))),
        bounds=tuple(Tick(scale(factor), f"page {factor:.4g}") for factor in factors),
        paths=(("p95", line(xs, [scale(value) for value in drawn.burn.tolist()])),),
        note="" if drawn.burn.any() else "nothing failed",
    )


def _events(drawn: Curve, xs: Sequence[float], across: Scale, top: float) -> Panel:
    step = float(drawn.at[1] - drawn.at[0])
    rate, failed = drawn.events / step, drawn.bad / step
    high = max(float(rate.max()), 1e-9) * _HEADROOM
    scale = Scale(0.0, high, top + _HEIGHTS[2], top)
    base, width = top + _HEIGHTS[2], across(float(drawn.at[0])) - _LEFT
    area = line(xs, [scale(value) for value in rate.tolist()]) + f"L{xs[-1]} {base}L{xs[0]} {base}z"
    bars = "".join(
        f"M{x - width:.1f} {base}V{min(scale(value), base - 1):.1f}h{width:.1f}V{base}z"
        for x, value in zip(xs, failed.tolist(), strict=True)
        if value
    )
    return Panel(
        title="Events per second, bad ones in red",
        top=top,
        height=_HEIGHTS[2],
        ticks=tuple(Tick(scale(value), f"{value:,.9g}") for value in (0.0, _round(high))),
        bounds=(),
        paths=(("answered", area), ("failed", bars)),
        note="" if rate.any() else "nothing happened",
    )


def _round(value: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(size * power for size in (5, 2, 1) if size * power <= value * 1.0001)


def _times(since: float, until: float, across: Scale, count: int) -> tuple[Tick, ...]:
    steps = (
        60.0,
        300.0,
        900.0,
        HOUR_S,
        3 * HOUR_S,
        6 * HOUR_S,
        12 * HOUR_S,
        DAY_S,
        2 * DAY_S,
        4 * DAY_S,
        7 * DAY_S,
        14 * DAY_S,
        28 * DAY_S,
    )
    step = next((step for step in steps if (until - since) / step <= count), steps[-1])
    # Days by their date, anything shorter by its hour.
    cut = slice(5, 10) if step >= DAY_S else slice(11, 16)
    first = math.ceil(since / step) * step
    return tuple(Tick(across(moment), iso(moment)[cut]) for moment in np.arange(first, until, step).tolist())
