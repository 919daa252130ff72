from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.errors import EvidenceDamaged
from sre.judges.budget import Account, Counts, Goal, Method, evident, weigh

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MONTH = 30 * DAY
TWO_WEEKS = 14 * DAY


def make_counts(bad: list[float], total: list[float], step: float = MINUTE, start: float = 0.0) -> Counts:
    ends = start + step * np.arange(1.0, len(total) + 1)
    return Counts(start, ends, np.array(bad, dtype=np.float64), np.array(total, dtype=np.float64))


def make_goal(  # noqa: PLR0913, PLR0917 - one argument per field
    target: float = 0.999, period: float = MONTH, method: Method = Method.OCCURRENCES, slice_s: float | None = None,
    slice_target: float | None = None, since: float | None = None,
) -> Goal:  # fmt: skip
    return Goal(target=target, period=period, method=method, slice_s=slice_s, slice_target=slice_target, since=since)


def attacked(minutes: int) -> Counts:
    """OpenSLO's example: two weeks of 24,000 requests a day, 99 % good, and 1 % during an attack at the end."""
    total = np.full(int(TWO_WEEKS / MINUTE), 24_000 / 1440)
    good = np.full_like(total, 0.99)
    good[len(good) - minutes :] = 0.01
    return make_counts(list(total * (1 - good)), list(total))


def spent_after(minutes: int, method: Method) -> float:
    goal = make_goal(
        0.95, TWO_WEEKS, method, None if method is Method.OCCURRENCES else MINUTE, 0.9 if method is Method.TIMESLICES else None
    )
    return Account(attacked(minutes), goal).budget(TWO_WEEKS).spent


def test_occurrences_of_openslo() -> None:
    # "16,632 failed requests": 5 % of those 336,000 that would not have failed anyway.
    succeeding = 336_000 * 0.99
    at_the_limit = Account(make_counts([16_632], [succeeding], TWO_WEEKS), make_goal(0.95, TWO_WEEKS)).budget(TWO_WEEKS)
    assert at_the_limit.spent == pytest.approx(1.0)
    one_less = Account(make_counts([16_631], [succeeding], TWO_WEEKS), make_goal(0.95, TWO_WEEKS)).budget(TWO_WEEKS)
    assert one_less.spent < 1


def test_timeslices_of_openslo() -> None:
    # "16 hours and 48 minutes"
    assert spent_after(16 * 60 + 48, Method.TIMESLICES) == pytest.approx(1.0)
    assert spent_after(16 * 60 + 47, Method.TIMESLICES) < 1


def test_ratio_timeslices_of_openslo() -> None:
    # "about 13 hours and 45 minutes": 13 h 43 min to the minute.
    assert spent_after(13 * 60 + 42, Method.RATIO_TIMESLICES) < 1
    assert spent_after(13 * 60 + 43, Method.RATIO_TIMESLICES) >= 1


def test_a_slice_at_its_target_is_good_and_an_idle_one_is_none() -> None:
    counts = make_counts([1, 0, 0, 2, 5, 0], [10, 0, 0, 10, 5, 20])
    goal = make_goal(method=Method.TIMESLICES, slice_s=MINUTE, slice_target=0.9)
    found = weigh(counts, goal)
    assert found.ends.tolist() == [60, 240, 300, 360]
    assert found.bad.tolist() == [0, 1, 1, 0]
    assert found.total.tolist() == [1, 1, 1, 1]


def test_slices_gather_steps() -> None:
    counts = make_counts([1, 0, 0, 3, 1], [4, 4, 0, 4, 1], step=30.0)
    found = weigh(counts, make_goal(method=Method.RATIO_TIMESLICES, slice_s=MINUTE))
    assert found.ends.tolist() == [60, 120, 150]
    assert found.bad.tolist() == [0.125, 0.75, 1.0]


def test_a_goal_without_its_slices_is_refused() -> None:
    for goal in (make_goal(method=Method.RATIO_TIMESLICES), make_goal(method=Method.TIMESLICES, slice_s=MINUTE)):
        with pytest.raises(EvidenceDamaged, match="needs a slice's width"):
            Account(make_counts([0], [1]), goal)


def test_the_budget_is_weighted_by_events_and_not_by_time() -> None:
    # One busy minute with 0.1 % failures, and an idle night with one failure of ten.
    account = Account(make_counts([10, 1], [10_000, 10]), make_goal())
    budget = account.budget(120)
    assert budget.spent == pytest.approx(11 / 10_010 / 0.001)
    assert budget.left == pytest.approx(1 - 11 / 10.01)
    assert budget.good == pytest.approx(1 - 11 / 10_010)


def test_where_nothing_happened_nothing_is_counted() -> None:
    account = Account(make_counts([0, 0], [0, 0]), make_goal())
    budget, burn, forecast = account.budget(120), account.burn(60, 120), account.forecast(60, 120)
    assert (budget.spent, budget.left, budget.good, budget.interval) == (0, 1, None, None)
    assert (burn.rate, burn.interval) == (0, None)
    assert forecast.expected == math.inf
    assert account.incidents(60, 1, 120) == ()
    assert not Account(make_counts([], []), make_goal()).budget(0.5).total


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.9, 0.999, 0.99999]),
    st.sampled_from([(Method.OCCURRENCES, None, None), (Method.TIMESLICES, 300.0, 0.9), (Method.RATIO_TIMESLICES, 300.0, None)]),
)
def test_no_figure_is_ever_not_a_number(
    steps: list[tuple[int, int]], target: float, method: tuple[Method, float | None, float | None]
) -> None:
    counts = make_counts([bad for bad, _ in steps], [total for _, total in steps])  # bad may run ahead of total
    account = Account(counts, make_goal(target, 10 * MINUTE, *method))
    at = len(steps) * MINUTE
    budget, burn, forecast = account.budget(at), account.burn(5 * MINUTE, at), account.forecast(5 * MINUTE, at)
    numbers = [budget.spent, budget.left, budget.covered, burn.rate, *(budget.interval or ()), *(burn.interval or ())]
    assert all(math.isfinite(number) for number in numbers)
    assert 0 <= budget.spent <= 1 / (1 - target) * (1 + 1e-9)
    assert not any(math.isnan(number) for number in (forecast.expected, forecast.earliest, forecast.latest))
    assert forecast.earliest <= forecast.expected <= forecast.latest
    for incident in account.incidents(5 * MINUTE, 1, at):
        assert 0 <= incident.start < incident.end <= at
        assert incident.bad > 0


def test_only_the_period_counts() -> None:
    account = Account(make_counts([5, 0, 0], [10, 10, 10], step=HOUR), make_goal(0.9, 2 * HOUR))
    assert account.budget(2 * HOUR).spent == pytest.approx(2.5)
    assert account.budget(3 * HOUR).spent == 0
    begun = Account(make_counts([5, 0, 0], [10, 10, 10], step=HOUR), make_goal(0.9, 10 * HOUR, since=HOUR))
    assert begun.budget(3 * HOUR).total == 20


def test_it_says_how_far_the_counts_reach_back() -> None:
    counts = make_counts([0] * 3, [1] * 3, step=HOUR, start=100 * HOUR)
    assert Account(counts, make_goal(period=6 * HOUR)).budget(103 * HOUR).covered == pytest.approx(0.5)
    assert Account(counts, make_goal(period=2 * HOUR)).budget(103 * HOUR).covered == 1


@pytest.mark.parametrize(
    ("bad", "total", "reached"), [(1, 10, None), (1, 999, None), (9, 10, True), (0, 10, False), (11, 10_010, True)]
)
def test_where_one_event_decides_the_interval_does(bad: float, total: float, *, reached: bool | None) -> None:
    assert Account(make_counts([bad], [total]), make_goal()).budget(60).reached(1.0) is reached


def test_burn_rates_of_one_instant_and_of_many_agree() -> None:
    rng = np.random.default_rng(7)
    total = rng.poisson(50, 600).astype(np.float64)
    account = Account(make_counts(list(rng.binomial(total.astype(int), 0.01)), list(total)), make_goal())
    at = np.arange(60.0, 36_000.0, 777.0)
    assert account.rates(HOUR, at).tolist() == [account.burn(HOUR, moment).rate for moment in at.tolist()]
    assert account.spent(at).tolist() == [account.budget(moment).spent for moment in at.tolist()]
    assert account.burn(HOUR, 36_000).interval is not None


def test_a_burn_of_a_few_events_is_none_for_sure() -> None:
    one, two = (Account(make_counts([bad], [10]), make_goal()) for bad in (1, 2))
    now = np.array([60.0])
    assert one.burn(HOUR, 60).rate == pytest.approx(100)
    assert not one.over(HOUR, 14.4, now)[0]
    assert two.over(HOUR, 14.4, now)[0]
    goal = Goal(target=0.999, period=MONTH, independent=False)
    assert Account(make_counts([1], [10]), goal).over(HOUR, 14.4, now)[0]
    assert Account(make_counts([1], [10]), goal).burn(HOUR, 60).interval is None


@given(st.floats(0, 1000), st.floats(1, 1e6), st.floats(1e-6, 0.5))
def test_evidence_grows_with_bad_events_and_shrinks_with_events(bad: float, total: float, share: float) -> None:
    found = evident(np.array([bad, bad + 1, bad]), np.array([total, total, total + 1]), share)
    assert found[1] or not found[0]
    assert found[0] or not found[2]
    if found[0]:
        assert bad > total * share


def test_evidence_errs_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(11)
    for total, share in ((10, 0.0144), (240, 0.003), (3_600, 0.0144)):
        bad = rng.binomial(total, share, 20_000).astype(np.float64)
        assert evident(bad, np.full(20_000, float(total)), share).mean() <= 0.05


def test_a_steady_burn_is_forecast_to_the_minute() -> None:
    # Half an hour ago everything was well; since then twice as much fails as is allowed.
    total = [1000.0] * 1440
    account = Account(make_counts([0.0] * 1410 + [2.0] * 30, total), make_goal(period=DAY))
    forecast = account.forecast(30 * MINUTE, DAY)
    # 60 of 1440 are spent; a minute spends 2 and nothing comes back until the bad half hour itself leaves.
    assert forecast.expected == pytest.approx((1440 - 60) / 2 * MINUTE, abs=MINUTE)
    assert forecast.earliest < forecast.expected < forecast.latest


def test_old_failures_leave_a_rolling_period_and_not_a_calendar_one() -> None:
    # 0.9 of the budget went in the first hour of the period; now half a budget's pace is burned.
    total = [1000.0] * 1440
    bad = [21.6] * 60 + [0.5] * 1380
    rolling = Account(make_counts(bad, total), make_goal(period=DAY))
    assert rolling.budget(DAY).spent == pytest.approx(1.379, abs=0.001)
    kept = Account(make_counts([10.0] * 60 + [0.5] * 1380, total), make_goal(period=DAY))
    assert kept.budget(DAY).spent == pytest.approx(0.896, abs=0.001)
    assert kept.forecast(HOUR, DAY).expected == math.inf
    assert rolling.forecast(HOUR, DAY).expected == 0
    calendar = Account(make_counts(bad[:720], total[:720]), make_goal(period=DAY, since=0.0))
    assert calendar.forecast(HOUR, 12 * HOUR).expected == 0
    saved = Account(make_counts([0.0] * 660 + [2.0] * 60, total[:720]), make_goal(period=DAY, since=0.0))
    assert saved.forecast(HOUR, 12 * HOUR).expected == pytest.approx(10 * HOUR, abs=MINUTE)
    late = Account(make_counts([0.0] * 1380 + [2.0] * 30, total[:1410]), make_goal(period=DAY, since=0.0))
    assert late.forecast(30 * MINUTE, 1410 * MINUTE).expected == math.inf


def test_incidents_are_the_spans_that_burned_and_what_they_cost() -> None:
    bad, total = [0.0] * 3 * 1440, [1000.0] * 3 * 1440
    bad[600:620] = [500.0] * 20
    bad[2000:2005] = [100.0] * 5
    account = Account(make_counts(bad, total), make_goal(period=MONTH))
    first, second = account.incidents(HOUR, 6, 3 * DAY)
    assert (first.start, first.end) == (600 * MINUTE, 620 * MINUTE)
    assert first.bad == 10_000
    assert first.cost == pytest.approx(10_000 / 43_200)
    assert first.large
    assert (second.start, second.end, second.large) == (2000 * MINUTE, 2005 * MINUTE, False)
    assert account.incidents(HOUR, 20, 3 * DAY) == (first,)


def test_spans_closer_than_the_window_are_one_incident() -> None:
    bad, total = [0.0] * 600, [1000.0] * 600
    bad[100:110] = bad[180:190] = [500.0] * 10
    assert len(Account(make_counts(bad, total), make_goal()).incidents(HOUR, 6, 600 * MINUTE)) == 1


def test_an_incident_of_slices_does_not_reach_into_an_idle_night() -> None:
    total = [10.0] * 60 + [0.0] * 480 + [10.0] * 60
    bad = [0.0] * 540 + [10.0] * 5 + [0.0] * 55
    goal = make_goal(0.99, method=Method.TIMESLICES, slice_s=MINUTE, slice_target=0.9)
    (found,) = Account(make_counts(bad, total), goal).incidents(HOUR, 2, 600 * MINUTE)
    assert (found.start, found.end) == (540 * MINUTE, 545 * MINUTE)


@pytest.mark.parametrize(
    ("ends", "bad", "total", "said"),
    [
        ([60, 120], [0], [1], "one length"),
        ([120, 60], [0, 0], [1, 1], "do not follow one another"),
        ([0, 60], [0, 0], [1, 1], "do not follow one another"),
        ([60], [math.nan], [1], "bad holds a count that is negative or no number"),
        ([60], [0], [-1], "total holds a count that is negative or no number"),
    ],
)
def test_counts_that_cannot_be_are_refused(ends: list[float], bad: list[float], total: list[float], said: str) -> None:
    with pytest.raises(EvidenceDamaged, match=said):
        Counts(0.0, np.array(ends, dtype=float), np.array(bad, dtype=float), np.array(total, dtype=float))


def test_a_month_is_counted_from_its_first_day() -> None:
    first = datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    goal = make_goal(period=28 * DAY, since=first)
    assert goal.begin(first + 5 * DAY) == first
    assert make_goal().begin(first) == first - MONTH
    assert make_goal().allowed == 0.001
