from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.dr import backup_plan
from sre.dr.retention import Health, Policy, SetState, keep, labels, stale, usable

POLICY = Policy(daily=7, weekly=4, monthly=12, week_begins=6)
BEGIN = date(2026, 1, 1)
THREE_YEARS = 3 * 365 + 1


def a_set(taken: datetime, *, full: bool, rests_on: str = "", health: Health = Health.GOOD, manual: bool = False) -> SetState:
    own = f"{taken:%Y%m%d-%H%M%S}"
    label = f"{own}F" if full else f"{rests_on or 'gone'}_{own}D"
    kind = "full" if full else "diff"
    return SetState(id=f"{taken:%Y%m%dT%H%M%SZ}-{kind}", taken=taken, label=label, health=health, manual=manual)


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


class Machine:
    """Backups, day by day: what was ever made, and what retention left."""

    def __init__(self) -> None:
        self.history: list[SetState] = []
        self.left: list[SetState] = []

    def run(self, taken: datetime, *, full: bool, health: Health = Health.GOOD) -> None:
        fulls = [item for item in self.left if item.full and item.health is Health.GOOD]
        if not full and not fulls:
            full = True  # a differential backup without a full one becomes full
        made = a_set(taken, full=full, rests_on=fulls[-1].label if fulls else "", health=health)
        self.history.append(made)
        self.left.append(made)
        kept = keep(self.left, taken + timedelta(minutes=20), POLICY)
        self.left = [item for item in self.left if item.id in kept]

    def kept(self) -> dict[str, tuple[str, ...]]:
        return keep(self.left, self.history[-1].taken, POLICY)


def classes(reasons: Iterable[str], name: str) -> list[str]:
    return sorted(reason for reason in reasons if reason.startswith(name))


def test_three_years_without_a_mishap_keep_exactly_what_the_plan_says() -> None:
    machine = Machine()
    for number in range(THREE_YEARS):
        day = BEGIN + timedelta(days=number)
        if day.weekday() == 6:
            machine.run(at(day, 1), full=True)
        machine.run(at(day, 2), full=False)
        days = [day - timedelta(days=back) for back in range(7)]
        sundays = [past for back in range(400) if (past := day - timedelta(days=back)).weekday() == 6]
        first_sundays = [sunday for sunday in sundays if sunday.day <= 7]
        if number < 400:
            continue  # the first year fills up; the other tests look at it
        diffs = {at(past, 2) for past in days}
        fulls = {at(past, 1) for past in (*sundays[:4], *first_sundays[:12])}
        below = {at(past - timedelta(days=(past.weekday() + 1) % 7), 1) for past in days}
        assert {item.taken for item in machine.left} == diffs | fulls | below, day


def test_the_reasons_tell_the_class() -> None:
    machine = Machine()
    for number in range(400):
        day = BEGIN + timedelta(days=number)
        if day.weekday() == 6:
            machine.run(at(day, 1), full=True)
        machine.run(at(day, 2), full=False)
    kept = machine.kept()
    reasons = [reason for why in kept.values() for reason in why]
    assert classes(reasons, "daily") == [f"daily {BEGIN + timedelta(days=number)}" for number in range(393, 400)]
    assert classes(reasons, "weekly") == [f"weekly 2027-01-{day}" for day in ("10", "17", "24", "31")]
    assert classes(reasons, "monthly") == [f"monthly 2026-{month:02}" for month in range(2, 13)] + ["monthly 2027-01"]
    assert kept["20270103T010000Z-full"] == ("monthly 2027-01",)
    assert kept["20270204T020000Z-diff"] == ("daily 2027-02-04", "newest good")
    assert kept["20270131T010000Z-full"] == (
        "weekly 2027-01-31",
        *(f"2027{day}T020000Z-diff rests on it" for day in ("0131", "0201", "0202", "0203", "0204")),
    )


RUN = st.sampled_from(["good", "good", "good", "missed", "twice", "unverified", "damaged"])


@settings(max_examples=15, deadline=None)
@given(st.lists(RUN, min_size=60, max_size=60), st.integers(0, 365))
def test_whatever_the_nights_bring(pattern: list[str], begin: int) -> None:
    """Removing day by day leaves what a choice among all sets that ever were would have kept: nothing goes too early or stays."""
    machine = Machine()
    for number in range(400):
        day = BEGIN + timedelta(days=begin + number)
        outcome = pattern[(number * 7 + number // 60) % 60]
        if outcome == "missed":
            continue
        health = Health(outcome) if outcome in set(Health) else Health.GOOD
        if day.weekday() == 6:
            machine.run(at(day, 1), full=True, health=health)
        machine.run(at(day, 2), full=False, health=health)
        if outcome == "twice":
            machine.run(at(day, 14), full=False)
    if not machine.history:
        return
    left = {item.id for item in machine.left}
    assert left == set(keep(machine.history, machine.history[-1].taken, POLICY))
    good = usable(machine.history)
    assert not good or good[-1].id in left
    assert all(any(item.label == other.rests_on for item in machine.left) for other in machine.left)
    counted = [
        item for item in machine.left if any(why.startswith(("daily", "weekly", "monthly")) for why in machine.kept()[item.id])
    ]
    assert len(counted) <= 7 + 4 + 12
    assert len(counted) >= min(7, len({item.taken.date() for item in good}))


TAKEN = st.integers(0, 400 * 24).map(lambda hours: at(BEGIN, 0) + timedelta(hours=hours))
ROW = st.tuples(TAKEN, st.booleans(), st.sampled_from(Health), st.booleans())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(TAKEN, st.booleans(), st.sampled_from(Health), st.booleans()), max_size=60, unique_by=lambda row: row[:2]),
    TAKEN,
)
def test_any_heap_of_sets(rows: list[tuple[datetime, bool, Health, bool]], now: datetime) -> None:
    sets: list[SetState] = []
    for taken, full, health, manual in sorted(rows):
        fulls = [item for item in sets if item.full]
        sets.append(a_set(taken, full=full, rests_on=fulls[-1].label if fulls else "", health=health, manual=manual))
    kept = keep(sets, now, POLICY)
    present = [item for item in usable(sets) if item.taken <= now]
    if present:
        assert max(present, key=lambda item: item.taken).id in kept
    else:
        assert {item.id for item in sets if item.taken <= now} <= set(kept)
    assert {item.id for item in sets if item.taken > now + timedelta(hours=1)} <= set(kept)
    assert {item.id for item in sets if item.label in labels(sets, kept)} <= set(kept)
    # Choosing again among what is left changes nothing.
    assert set(keep([item for item in sets if item.id in kept], now, POLICY)) == set(kept)


def nights(count: int, *, health: Health = Health.GOOD) -> list[SetState]:
    return [a_set(at(BEGIN + timedelta(days=number), 2), full=True, health=health) for number in range(count)]


def test_sets_that_are_not_good_count_for_nothing() -> None:
    sets = nights(30)
    now = sets[-1].taken
    bad = [replace(a_set(item.taken + timedelta(hours=1), full=True), health=Health.DAMAGED) for item in sets[:-1]]
    assert set(keep([*sets, *bad], now, POLICY)) == set(keep(sets, now, POLICY))


def test_a_set_that_is_not_good_yet_stays_while_it_is_the_newest() -> None:
    sets = [*nights(3), a_set(at(BEGIN + timedelta(days=3), 2), full=True, health=Health.UNVERIFIED)]
    kept = keep(sets, sets[-1].taken, POLICY)
    assert kept[sets[-1].id] == ("unverified, and no good set is newer",)
    assert "newest good" in kept[sets[-2].id]


def test_without_any_good_set_nothing_is_removed() -> None:
    sets = nights(100, health=Health.UNVERIFIED)
    assert len(keep(sets, sets[-1].taken, POLICY)) == 100


def test_a_differential_set_on_a_damaged_full_one_is_no_good_set() -> None:
    full = a_set(at(BEGIN, 1), full=True)
    bad = replace(a_set(at(BEGIN, 3), full=True), health=Health.DAMAGED)
    resting = a_set(at(BEGIN, 4), full=False, rests_on=bad.label)
    kept = keep([full, bad, resting], at(BEGIN, 5), POLICY)
    assert "newest good" in kept[full.id]
    assert usable([full, bad, resting]) == [full]


def reasons_of(sets: list[SetState], name: str) -> dict[str, str]:
    """The set of every period."""
    found = keep(sets, sets[-1].taken, POLICY)
    return {reason.partition(" ")[2]: set_id for set_id, why in found.items() for reason in classes(why, name)}


def test_a_week_without_its_full_set_is_stood_for_once_it_is_over() -> None:
    sunday = date(2026, 3, 1)
    fulls = [a_set(at(sunday + timedelta(weeks=week), 1), full=True) for week in range(5)]
    failed = sunday + timedelta(weeks=5)
    diffs = [a_set(at(failed + timedelta(days=day), 2), full=False, rests_on=fulls[-1].label) for day in range(7)]
    # While it lasts, a full backup may still be made up for, and no older week gives way.
    assert list(reasons_of([*fulls, *diffs], "weekly").values()) == [item.id for item in fulls[1:]]
    next_full = a_set(at(failed + timedelta(days=7), 1), full=True)
    over = reasons_of([*fulls, *diffs, next_full], "weekly")
    assert list(over.values()) == [*(item.id for item in fulls[3:]), diffs[0].id, next_full.id]
    made_up = a_set(at(failed + timedelta(days=2), 9), full=True)
    assert reasons_of([*fulls, *diffs[:2], made_up], "weekly")["2026-04-05"] == made_up.id


def test_the_schedules_full_set_stands_for_a_month_before_a_manual_one() -> None:
    manual = a_set(at(date(2026, 3, 2), 12), full=True, manual=True)
    scheduled = a_set(at(date(2026, 3, 8), 1), full=True)
    assert reasons_of([manual], "monthly") == {"2026-03": manual.id}
    assert reasons_of([manual, scheduled], "monthly") == {"2026-03": scheduled.id}


def test_a_clock_that_ran_ahead_removes_nothing() -> None:
    sets = nights(40)
    now = sets[-1].taken
    ahead = [a_set(at(date(2036, 1, 1) + timedelta(days=number), 2), full=True) for number in range(20)]
    kept = keep([*sets, *ahead], now, POLICY)
    assert {item.id for item in ahead} <= set(kept)
    assert set(keep(sets, now, POLICY)) <= set(kept)
    assert kept[ahead[0].id] == ("dated in the future: a clock jumped",)


@pytest.mark.parametrize("years", [-20, 20])
def test_the_hour_of_pruning_does_not_choose(years: int) -> None:
    sets = nights(40)
    now = sets[-1].taken.replace(year=sets[-1].taken.year + years)
    assert set(keep(sets, sets[-1].taken, POLICY)) <= set(keep(sets, now, POLICY))


def test_days_are_those_of_utc() -> None:
    east = timezone(timedelta(hours=9))
    sets = [a_set(datetime(2026, 1, 1, hour, tzinfo=UTC).astimezone(east), full=True) for hour in (1, 23)]
    assert classes([why for whys in keep(sets, sets[-1].taken, POLICY).values() for why in whys], "daily") == ["daily 2026-01-01"]


def test_the_label_of_every_kept_set_and_of_what_it_rests_on_is_needed() -> None:
    full = a_set(at(BEGIN, 1), full=True)
    diff = a_set(at(BEGIN, 2), full=False, rests_on="20251228-010000F")
    assert labels([full, diff], {diff.id: ()}) == {diff.label, "20251228-010000F"}


def test_the_policy_of_the_plan() -> None:
    assert Policy.of(backup_plan.load()) == POLICY


@pytest.mark.parametrize(
    ("sets", "hours", "says"),
    [
        (nights(2), 24, None),
        (nights(2), 27, r"the newest good backup of store, 20260102T020000Z-full, is 27\.0 h old; the plan allows 26 h"),
        ([], 0, "store holds no good backup"),
        (nights(2, health=Health.UNVERIFIED), 1, "store holds no good backup"),
        (
            [*nights(2), a_set(at(date(2036, 1, 1), 2), full=True)],
            27,
            "the newest good backup of store, 20260102T020000Z-full, is 27",
        ),
        (
            [a_set(at(date(2036, 1, 1), 2), full=True)],
            0,
            r"store holds no good backup, and what is dated in the future proves none \(20360101T020000Z-full\): a clock jumped",
        ),
        (
            [*nights(1), replace(nights(2)[1], id="20251231T020000Z-full", taken=at(date(2025, 12, 31), 2))],
            1,
            "the newest good backup of store by its date, 20260101T020000Z-full, was made before 20251231T020000Z-full",
        ),
    ],
)
def test_staleness(sets: list[SetState], hours: int, says: str | None) -> None:
    found = stale(sets, at(date(2026, 1, 2), 2) + timedelta(hours=hours), 26 * 3600.0, "store")
    assert (found is None) if says is None else re.match(says, found or "")
