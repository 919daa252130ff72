from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.errors import UsageError
from sre.units import Comparison, Unit, parse_ratio, parse_seconds, show, show_bound

BELOW, AT_LEAST = Comparison.BELOW, Comparison.AT_LEAST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("2min", 120.0),
        ("1h30m", 5400.0),
        ("1 h 30 s", 3630.0),
        ("1d", 86_400.0),
        ("1.5s", 1.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "-3s", "10 parsecs", "1h30", "3s!", "1e3s", "nan s"])
def test_durations_without_a_unit_or_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="duration"):
        parse_seconds(text)


@pytest.mark.parametrize(("text", "ratio"), [("99.9%", 0.999), ("0.999", 0.999), (" 5 % ", 0.05), ("0", 0.0), ("100%", 1.0)])
def test_ratios_are_read(text: str, ratio: float) -> None:
    assert parse_ratio(text) == pytest.approx(ratio)


@pytest.mark.parametrize("text", ["", "99.9", "-1%", "101%", "nan", "inf", "most"])
def test_ratios_outside_zero_to_one_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ratio"):
        parse_ratio(text)


@pytest.mark.parametrize(
    ("value", "unit", "worse", "text"),
    [
        (0.99899, Unit.RATIO, AT_LEAST, "99.89 %"),
        (0.000_901, Unit.RATIO, BELOW, "0.10 %"),
        (0.0, Unit.RATIO, BELOW, "0.00 %"),
        (1043.9, Unit.PER_SECOND, AT_LEAST, "1,043/s"),
        (6.31, Unit.SECONDS, BELOW, "6.4 s"),
        (0.4991, Unit.SECONDS, BELOW, "500 ms"),
        (0.0611, Unit.SECONDS, BELOW, "61.1 ms"),
        (750.0, Unit.SECONDS, BELOW, "12.5 min"),
        (12_345.0, Unit.COUNT, BELOW, "12,345"),
        (0.1 + 0.2, Unit.SECONDS, BELOW, "300 ms"),
        (math.inf, Unit.SECONDS, BELOW, "never"),
        (math.nan, Unit.SECONDS, BELOW, "no data"),
        (None, Unit.RATIO, AT_LEAST, "no data"),
    ],
)
def test_values_are_rounded_against_ourselves(value: float | None, unit: Unit, worse: Comparison, text: str) -> None:
    assert show(value, unit, worse) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (30.0, Unit.SECONDS, "30 s"),
        (0.5, Unit.SECONDS, "500 ms"),
        (120.0, Unit.SECONDS, "2 min"),
        (3600.0, Unit.SECONDS, "1 h"),
        (86_400.0, Unit.SECONDS, "24 h"),
        (90.0, Unit.SECONDS, "90 s"),
        (0.999, Unit.RATIO, "99.9 %"),
        (1000.0, Unit.PER_SECOND, "1,000/s"),
        (1.0, Unit.COUNT, "1"),
    ],
)
def test_bounds_are_printed_as_people_write_them(value: float, unit: Unit, text: str) -> None:
    assert show_bound(value, unit) == text


@given(st.floats(min_value=0.0, max_value=1.0))
def test_a_ratio_never_reads_better_than_it_is(value: float) -> None:
    def percent(text: str) -> float:
        return float(re.sub(r"[ %]", "", text))

    assert percent(show(value, Unit.RATIO, AT_LEAST)) <= value * 100 + 1e-9
    assert percent(show(value, Unit.RATIO, BELOW)) >= value * 100 - 1e-9


@pytest.mark.parametrize("comparison", list(Comparison))
def test_nan_keeps_no_bound(comparison: Comparison) -> None:
    assert not comparison.holds(math.nan, 1.0)
    assert not comparison.holds(1.0, math.nan)


def test_the_bound_itself_is_kept_by_at_least_and_not_by_below() -> None:
    assert AT_LEAST.holds(1000.0, 1000.0)
    assert not BELOW.holds(0.5, 0.5)
