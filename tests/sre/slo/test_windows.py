from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.slo.windows import DAY_S, HOUR_S, Severity, Window, usable, workbook

# canary-slo.md, section 6, and table 5-8 of the workbook: factors for 30 days, and the same budget shares for other periods.
FACTORS = {7: (3.36, 1.4, 0.7, 7 / 30), 28: (13.44, 5.6, 2.8, 0.9333333), 30: (14.4, 6, 3, 1), 90: (43.2, 18, 9, 3)}


@pytest.mark.parametrize("days", FACTORS)
def test_the_factors_of_the_workbook(days: int) -> None:
    windows = workbook(days * DAY_S)
    assert [window.factor for window in windows] == pytest.approx(FACTORS[days])
    assert [(window.long_s, window.short_s) for window in windows] == [
        (HOUR_S, 300), (6 * HOUR_S, 1800), (DAY_S, 2 * HOUR_S), (3 * DAY_S, 6 * HOUR_S),
    ]  # fmt: skip
    assert [window.severity for window in windows] == [Severity.PAGE] * 2 + [Severity.TICKET] * 2


@given(st.floats(1.0, 400.0))
def test_a_window_at_its_factor_spends_its_share_whatever_the_period(days: float) -> None:
    spent = [window.factor * window.long_s / (days * DAY_S) for window in workbook(days * DAY_S)]
    assert spent == pytest.approx([0.02, 0.05, 0.1, 0.1])


@pytest.mark.parametrize(
    ("bad_share", "minutes"),
    [(1.0, 0.864), (0.1, 8.64), (0.05, 17.28)],
)
def test_how_long_an_outage_lasts_before_the_first_page(bad_share: float, minutes: float) -> None:
    detected = workbook(30 * DAY_S)[0].detected_s(0.001, bad_share)
    assert detected == pytest.approx(minutes * 60)


def test_a_slow_burn_is_left_to_the_longer_windows() -> None:
    first, second, *_ = workbook(30 * DAY_S)
    assert first.detected_s(0.001, 0.01) is None
    assert second.detected_s(0.001, 0.01) == pytest.approx(216 * 60)
    assert second.detected_s(0.001, 0.0) is None


def test_waiting_is_added() -> None:
    assert Window(Severity.PAGE, HOUR_S, 300, 10, for_s=120).detected_s(0.01, 1.0) == pytest.approx(480)


def test_what_no_outage_can_reach_or_every_kept_objective_does_is_left_out() -> None:
    month, week = workbook(30 * DAY_S), workbook(7 * DAY_S)
    assert usable(month, 0.001) == month
    assert usable(month, 0.1) == month[1:]
    assert usable(week, 0.001) == week[:2]
    assert usable(workbook(28 * DAY_S), 0.001) == workbook(28 * DAY_S)
    assert usable(month, 1.0) == ()
