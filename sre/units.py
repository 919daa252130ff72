"""Units: parsing what people type and printing what was measured, rounded against ourselves."""

from __future__ import annotations

import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import NewType

from sre.errors import UsageError

Seconds = NewType("Seconds", float)
Ratio = NewType("Ratio", float)
PerSecond = NewType("PerSecond", float)

_SECONDS_PER = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d)")


class Unit(StrEnum):
    """The unit of a measured value and of its bound."""

    SECONDS = "s"
    RATIO = "ratio"
    PER_SECOND = "/s"
    COUNT = "count"


class Comparison(StrEnum):
    """How a measured value must stand to its bound."""

    BELOW = "<"
    AT_LEAST = ">="

    def holds(self, measured: float, bound: float) -> bool:
        """Whether `measured` keeps `bound`. NaN never does."""
        return measured < bound if self is Comparison.BELOW else measured >= bound


def parse_seconds(text: str) -> Seconds:
    """Read a duration such as `500ms`, `30s`, `10m`, `1h30m`.

    Raises:
        UsageError: for anything else, a bare number included: `10` says neither seconds nor minutes.
    """
    compact = text.strip().replace(" ", "")
    parts = _DURATION.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UsageError(f"duration {text!r} is not understood; write for example 500ms, 30s, 10m, 1h30m")
    return Seconds(sum(float(number) * _SECONDS_PER[unit] for number, unit in parts))


def parse_ratio(text: str) -> Ratio:
    """Read a ratio such as `99.9%` or `0.999`.

    Raises:
        UsageError: when it is not a number, or lies outside 0 to 1.
    """
    stripped = text.strip()
    try:
        value = float(stripped.removesuffix("%")) / (100.0 if stripped.endswith("%") else 1.0)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"ratio {text!r} is not between 0 and 1; write for example 99.9% or 0.999")
    return Ratio(value)


def show(value: float | None, unit: Unit, worse: Comparison = Comparison.BELOW) -> str:  # noqa: PLR0911 - one per unit
    """Print a measured value, rounded towards the worse side, so that 99.899 % never reads 99.90 %.

    Args:
        value: in the base unit (seconds, 0 to 1, events a second); None prints as `no data`.
        unit: decides scale and digits: seconds below 1 print as ms, ratios as per cent.
        worse: the comparison that the value must satisfy. `<` makes larger worse, so it rounds up.
    """
    if value is None or math.isnan(value):
        return "no data"
    if math.isinf(value):
        return "never"
    up = worse is Comparison.BELOW
    if unit is Unit.RATIO:
        return f"{_rounded(value * 100, 2, up=up)} %"
    if unit is Unit.PER_SECOND:
        return f"{_rounded(value, 0, up=up)}/s"
    if unit is Unit.COUNT:
        return f"{value:,.0f}"
    if value < 1:
        return f"{_rounded(value * 1000, 1 if value < 0.1 else 0, up=up)} ms"
    if value >= 600:
        return f"{_rounded(value / 60, 1, up=up)} min"
    return f"{_rounded(value, 1, up=up)} s"


def show_bound(value: float, unit: Unit) -> str:
    """Print a bound as people write it: `30 s`, `500 ms`, `99.9 %`, `1,000/s`."""
    if unit is Unit.RATIO:
        return f"{value * 100:.10g} %"
    if unit is Unit.PER_SECOND:
        return f"{value:,.10g}/s"
    if unit is Unit.COUNT:
        return f"{value:,.10g}"
    for size, name in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if value >= size and (value / size).is_integer():
            return f"{value / size:,.10g} {name}"
    return f"{value * 1000:.10g} ms"


def _rounded(value: float, digits: int, *, up: bool) -> str:
    # Twelve significant digits first: 0.1 + 0.2 must not be pushed over the next step by its last bit.
    exact = Decimal(f"{value:.12g}")
    step = Decimal(1).scaleb(-digits)
    return f"{exact.quantize(step, rounding=ROUND_CEILING if up else ROUND_FLOOR):,}"
