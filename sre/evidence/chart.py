"""Geometry of the timeline: numbers in, positions out. The template draws them and knows no arithmetic.

Three panels share one time axis: latency on a logarithmic scale, requests per second, failed requests per second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sre.measure.windows import Series
from sre.units import Unit, show, show_bound

_LEFT, _RIGHT, _RIBBON, _TITLE, _GAP, _AXIS = 58.0, 12.0, 20.0, 20.0, 14.0, 34.0
_LETTER = 6.2  # width of a letter in a label, about
_HEADROOM = 1.5  # a latency panel reaches this factor beyond its lowest and highest value
_LATENCY_HEIGHT, _RATE_HEIGHT, _FAILED_HEIGHT = 190.0, 100.0, 70.0


@dataclass(frozen=True, slots=True)
class Span:
    """A named stretch of time, seconds on the chart's axis."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Level:
    """A bound drawn as a line across a panel, in the panel's unit."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is drawn besides the series.

    Attributes:
        steps: of the drill.
        fault: None for a drill without one.
        deadline: the moment by which the system must be whole again, s on the axis; None without such a promise.
        latency: bounds, s.
        rate: bounds, requests per second.
    """

    steps: tuple[Span, ...]
    fault: Span | None
    deadline: Level | None
    latency: tuple[Level, ...]
    rate: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A position along an axis and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle; the label is empty where it would not fit, `name` is always there."""

    x: float
    width: float
    name: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: its frame, grid, bounds and paths (`style`, SVG path data)."""

    title: str
    top: float
    height: float
    ticks: tuple[Tick, ...]
    bounds: tuple[Tick, ...]
    paths: tuple[tuple[str, str], ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Everything that the template draws, in SVG user units."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    panels: tuple[Panel, ...]
    times: tuple[Tick, ...]
    steps: tuple[Box, ...]
    fault: Box | None
    deadline: Tick | None
    hovers: tuple[Box, ...]


def chart(series: Series, marks: Marks, pixels: float) -> Chart:
    """Lay out the timeline.

    Args:
        series: at least one window.
        marks: the rest of what is drawn.
        pixels: width of the drawing, in SVG user units.
    """
    end = series.start[-1] + series.width
    across = Scale(0.0, end, _LEFT, pixels - _RIGHT)
    fault = marks.fault if marks.fault and marks.fault.start < end else None
    deadline = marks.deadline if marks.deadline and marks.deadline.value < end else None
    centres = [across(start + series.width / 2) for start in series.start]
    panels = _panels(series, marks, centres, across)
    bottom = panels[-1].top + panels[-1].height
    size = (pixels - _RIGHT - _LEFT) / len(series.start)
    return Chart(
        width=pixels,
        height=bottom + _AXIS,
        left=_LEFT,
        right=pixels - _RIGHT,
        bottom=bottom,
        panels=panels,
        times=tuple(Tick(across(t), f"{t:g} s") for t in round_ticks(end, max(2, int(pixels / 110)))),
        steps=tuple(box(span, across) for span in marks.steps if span.end > 0 and span.start < end),
        fault=None if fault is None else box(fault, across),
        deadline=None if deadline is None else Tick(across(deadline.value), deadline.name),
        hovers=tuple(Box(x - size / 2, size, sentence, "") for x, sentence in zip(centres, sentences(series), strict=True)),
    )


def sentences(series: Series) -> list[str]:
    """One line per window with all its numbers: what the drawing shows when pointed at."""
    return [f"{row[0]}: {row[1]} sent, {row[2]} failed, p50 {row[3]}, p95 {row[4]}, p99 {row[5]}" for row in rows(series)]


def rows(series: Series) -> list[tuple[str, ...]]:
    """The series as text, one row per window: time, sent, failed (both per second), p50, p95, p99."""
    return [
        (
            f"{start:g} s",
            show(sent / series.width, Unit.PER_SECOND),
            show(failed / series.width, Unit.PER_SECOND),
            *(show(value, Unit.SECONDS) for value in quantiles),
        )
        for start, sent, failed, *quantiles in zip(
            series.start, series.sent, series.failed, *_quantiles(series).values(), strict=True
        )
    ]


def summary(series: Series) -> str:
    """The chart in one sentence, for those who do not see it."""
    p95 = [(value, start) for value, start in zip(series.p95, series.start, strict=True) if value is not None]
    never = sum(math.isinf(value) for value in _quantiles(series)["p95"])
    sent = [value / series.width for value in series.sent]
    failed = [(start, count) for start, count in zip(series.start, series.failed, strict=True) if count]
    parts = [f"{show(min(sent), Unit.PER_SECOND)} to {show(max(sent), Unit.PER_SECOND)} requests sent"]
    if p95:
        worst, at = max(p95)
        parts.append(f"p95 from {show(min(p95)[0], Unit.SECONDS)} to {show(worst, Unit.SECONDS)}, highest at {at:g} s")
    if never:
        parts.append(f"in {never} of {len(series.start)} windows too many failed for a p95, its line leaves at the top")
    total = sum(count for _, count in failed)
    when = f" between {failed[0][0]:g} s and {failed[-1][0] + series.width:g} s" if failed else ""
    parts.append(f"{total:,} failed{when}")
    return "; ".join(parts) + "."


class Scale:
    """A linear map from values to positions, clamped to its ends."""

    def __init__(self, low: float, high: float, at_low: float, at_high: float) -> None:
        self._low, self._high, self._at_low, self._at_high = low, high, at_low, at_high

    def __call__(self, value: float) -> float:
        """The position of a value, to a tenth of a unit."""
        share = (min(max(value, self._low), self._high) - self._low) / (self._high - self._low)
        return round(self._at_low + share * (self._at_high - self._at_low), 1)


def _panels(series: Series, marks: Marks, centres: Sequence[float], across: Scale) -> tuple[Panel, ...]:
    top = (2 * _RIBBON if marks.fault else _RIBBON) + _TITLE + 8
    latency = _latency(series, marks, centres, top)
    top += _LATENCY_HEIGHT + _GAP + _TITLE
    rate = _rate(series, marks, centres, top)
    top += _RATE_HEIGHT + _GAP + _TITLE
    failed = [value / series.width for value in series.failed]
    scale, ticks = _from_zero(max(failed), top, _FAILED_HEIGHT)
    ticks = ticks if any(failed) else ticks[:1]
    half = (across(series.width) - across(0.0)) / 2
    bars = "".join(
        f"M{x - half:.1f} {top + _FAILED_HEIGHT:.1f}V{scale(value):.1f}h{2 * half:.1f}V{top + _FAILED_HEIGHT:.1f}z"
        for x, value in zip(centres, failed, strict=True)
        if value
    )
    failures = Panel(
        title="Failed per second",
        top=top,
        height=_FAILED_HEIGHT,
        ticks=ticks,
        bounds=(),
        paths=(("failed", bars),),
        note="" if any(failed) else "no request failed",
    )
    return latency, rate, failures


def _latency(series: Series, marks: Marks, centres: Sequence[float], top: float) -> Panel:
    quantiles = _quantiles(series)
    known = [value for values in quantiles.values() for value in values if math.isfinite(value) and value > 0]
    inside = known + [level.value for level in marks.latency]
    low, high = math.log10(min(inside, default=0.001) / _HEADROOM), math.log10(max(inside, default=1.0) * _HEADROOM)
    scale = Scale(low, high, top + _LATENCY_HEIGHT, top)
    # Below two decades, powers of ten alone would leave one grid line or none.
    digits = (1,) if high - low > 2 else (1, 2, 5)
    grid = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high)) for digit in digits]
    return Panel(
        title="Latency, logarithmic",
        top=top,
        height=_LATENCY_HEIGHT,
        ticks=tuple(
            Tick(scale(math.log10(value)), show_bound(value, Unit.SECONDS)) for value in grid if low <= math.log10(value) <= high
        ),
        bounds=tuple(Tick(scale(math.log10(level.value)), level.name) for level in marks.latency),
        paths=tuple(
            (name, line(centres, [scale(math.log10(value)) if value > 0 else math.nan for value in values]))
            for name, values in quantiles.items()
        ),
        note="" if known else "no request was answered",
    )


def _quantiles(series: Series) -> dict[str, list[float]]:
    """Latencies, s: infinite where too many failed for the quantile, NaN where nothing was planned."""
    planned = [ok + failed for ok, failed in zip(series.ok, series.failed, strict=True)]
    return {
        name: [(math.inf if n else math.nan) if value is None else value for value, n in zip(values, planned, strict=True)]
        for name, values in (("p50", series.p50), ("p95", series.p95), ("p99", series.p99))
    }


def _rate(series: Series, marks: Marks, centres: Sequence[float], top: float) -> Panel:
    sent, answered = ([value / series.width for value in values] for values in (series.sent, series.ok))
    scale, ticks = _from_zero(max([*sent, *(level.value for level in marks.rate)]), top, _RATE_HEIGHT)
    area = line(centres, [scale(value) for value in answered])
    base = top + _RATE_HEIGHT
    return Panel(
        title=", ".join(["Requests per second", *(f"bound {level.name}" for level in marks.rate)]),
        top=top,
        height=_RATE_HEIGHT,
        ticks=ticks,
        bounds=tuple(Tick(scale(level.value), "") for level in marks.rate),  # named in the title: the data hide a label here
        paths=(
            ("answered", f"{area}L{centres[-1]} {base}L{centres[0]} {base}z"),
            ("sent", line(centres, [scale(value) for value in sent])),
        ),
        note="",
    )


def _from_zero(most: float, top: float, height: float) -> tuple[Scale, tuple[Tick, ...]]:
    steps = round_ticks(most or 1.0, 2)
    high = max(steps[-1], most or 1.0)
    scale = Scale(0.0, high * 1.08, top + height, top)
    return scale, tuple(Tick(scale(value), f"{value:,.10g}") for value in steps)


def round_ticks(end: float, count: int) -> list[float]:
    """0 and round values up to `end`, about `count` steps of 1, 2 or 5 times a power of ten."""
    rough = end / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    return [round(step * i, 10) for i in range(int(end / step + 1e-9) + 1)]


def line(xs: Iterable[float], ys: Iterable[float]) -> str:
    """Path data through the points, broken where y is NaN; a lone point becomes a dot."""
    path, pen_down = [], False
    for x, y in zip(xs, ys, strict=True):
        if not math.isnan(y):
            path.append(f"L{x} {y}" if pen_down else f"M{x} {y}h.1")
        pen_down = not math.isnan(y)
    return "".join(path)


def box(span: Span, across: Scale) -> Box:
    """The rectangle of a stretch of time."""
    x, right = across(span.start), across(span.end)
    size = max(right - x, 1.0)
    return Box(x, round(size, 1), span.name, span.name if len(span.name) * _LETTER + 6 <= size else "")
