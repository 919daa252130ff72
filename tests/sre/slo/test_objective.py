from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.slo.objective import Calendar

BERLIN = ZoneInfo("Europe/Berlin")


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("start", "length", "at", "period"),
    [
        ("2026-01-01", (1, "M"), "2026-02-15T12:00", ("2026-02-01", "2026-03-01")),
        ("2026-01-01", (1, "M"), "2026-02-01T00:00", ("2026-02-01", "2026-03-01")),
        ("2026-01-01", (1, "M"), "2025-12-31T23:59", ("2025-12-01", "2026-01-01")),
        ("2026-01-31", (1, "M"), "2026-03-15", ("2026-02-28", "2026-03-31")),
        ("2026-01-15T06:00", (1, "M"), "2026-02-15T05:59", ("2026-01-15T06:00", "2026-02-15T06:00")),
        ("2026-01-01", (1, "Q"), "2026-05-05", ("2026-04-01", "2026-07-01")),
        ("2026-01-01", (2, "Q"), "2026-07-01", ("2026-07-01", "2027-01-01")),
        ("2024-02-29", (1, "Y"), "2026-01-01", ("2025-02-28", "2026-02-28")),
        ("2026-01-05", (1, "w"), "2026-03-31", ("2026-03-30", "2026-04-06")),
        ("2026-03-28", (1, "d"), "2026-03-29T12:00", ("2026-03-29", "2026-03-30")),
        ("2026-03-29", (6, "h"), "2026-03-29T06:59", ("2026-03-29", "2026-03-29T07:00")),
    ],
)
def test_the_period_that_a_moment_lies_in(start: str, length: tuple[int, str], at: str, period: tuple[str, str]) -> None:
    assert Calendar(day(start), *length).period(day(at)) == (day(period[0]), day(period[1]))


def test_a_moment_of_another_zone() -> None:
    begins, _ = Calendar(day("2026-01-01"), 1, "M").period(datetime(2026, 1, 31, 23, 30, tzinfo=UTC))
    assert begins == day("2026-02-01")


@given(
    st.datetimes(datetime(2001, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - hypothesis wants them bare
    st.integers(1, 5),
    st.sampled_from("mhdwMQY"),
    st.datetimes(datetime(2001, 1, 1), datetime(2040, 1, 1), timezones=st.just(BERLIN)),  # noqa: DTZ001 - the same
)
def test_periods_hold_their_moment_and_follow_each_other(start: datetime, count: int, unit: str, at: datetime) -> None:
    calendar = Calendar(start.replace(tzinfo=BERLIN), count, unit)
    begins, ends = calendar.period(at)
    assert begins.timestamp() <= at.timestamp() < ends.timestamp()
    assert calendar.period(ends)[0] == ends
