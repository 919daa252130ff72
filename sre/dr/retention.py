"""Which backup sets are kept: grandfather, father and son over the UTC calendar. Pure: no clock, no disk.

Days, weeks and months are counted by those that hold a good set, never by distance from now. So a night without a backup, or a
clock that jumped, deletes nothing; only newer good sets push older ones out.

A week begins with its full backup, on the plan's weekday. A month's set is the first full one in it, which is the first weekly
one. While a week or month lasts, only a full set stands for it; when it ended without one, the first good set does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from sre.dr.backup_plan import Plan

CLOCK_SLACK = timedelta(minutes=5)  # clocks of two machines may differ so much; a set dated later comes from a clock that jumped

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Health(StrEnum):
    """What is known of a set."""

    GOOD = "good"
    UNVERIFIED = "unverified"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetState:
    """What retention needs to know of a set.

    Attributes:
        id: of the set.
        taken: when it began; with a zone.
        label: of its database backup; that of a differential one begins with the label of its full one, up to `_`.
        health: only a good set counts.
        manual: somebody asked for it; the schedule's sets are preferred for weeks and months.
    """

    id: str
    taken: datetime
    label: str
    health: Health
    manual: bool = False

    @property
    def full(self) -> bool:
        """Whether its database backup needs no other."""
        return self.rests_on == self.label

    @property
    def rests_on(self) -> str:
        """Label of the full database backup without which this one cannot be restored; its own when it is full."""
        return self.label.partition("_")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How many days, weeks and months keep a set, and the day that begins a week (Monday is 0)."""

    daily: int
    weekly: int
    monthly: int
    week_begins: int

    @classmethod
    def of(cls, plan: Plan) -> Policy:
        """The plan's."""
        backups = plan.backups
        return cls(
            daily=backups.daily.keep,
            weekly=backups.weekly.keep,
            monthly=backups.monthly.keep,
            week_begins=_WEEKDAYS.index(backups.weekly.day),
        )


def keep(sets: Iterable[SetState], now: datetime, policy: Policy) -> dict[str, tuple[str, ...]]:
    """The sets to keep, oldest first, each with its reasons; whatever is not in it may be removed.

    Args:
        sets: all there are; ids are unique.
        now: with a zone. Only tells sets that are dated in the future: those are kept and count for nothing.
        policy: how many.
    """
    known = sorted(sets, key=lambda item: (item.taken, item.id))
    reasons: dict[str, list[str]] = {item.id: [] for item in known}
    present = [item for item in known if item.taken <= now + CLOCK_SLACK]
    for item in known[len(present) :]:
        reasons[item.id].append("dated in the future: a clock jumped")
    good = usable(present)
    _count(good, policy, reasons)
    if good:
        reasons[good[-1].id].append("newest good")
    last = good[-1].taken if good else None
    for item in present:
        if item not in good and (last is None or item.taken > last):
            reasons[item.id].append(f"{item.health}, and no good set is newer")
    for item in known:
        needing = [other.id for other in known if reasons[other.id] and other is not item and other.rests_on == item.label != ""]
        reasons[item.id].extend(f"{other} rests on it" for other in needing)
    return {name: tuple(why) for name, why in reasons.items() if why}


def usable(sets: Iterable[SetState]) -> list[SetState]:
    """The good sets whose full backup is not known to be otherwise."""
    known = list(sets)
    bad = {item.label for item in known if item.full and item.health is not Health.GOOD}
    return [item for item in known if item.health is Health.GOOD and item.rests_on not in bad]


def labels(sets: Iterable[SetState], kept: Mapping[str, object]) -> frozenset[str]:
    """Labels of the database backups that the kept sets need, the full ones below them included."""
    needed = [item for item in sets if item.id in kept]
    return frozenset({item.label for item in needed} | {item.rests_on for item in needed})


def stale(sets: Iterable[SetState], now: datetime, max_age_s: float, place: str) -> str | None:
    """Why the newest good set is too old; None when it is young enough.

    A set dated in the future proves no age. Neither do dates that contradict the order of the database backups, whose labels
    pgBackRest lets only grow.
    """
    known = list(sets)
    ahead = [item.id for item in known if item.taken > now + CLOCK_SLACK]
    good = usable(item for item in known if item.id not in ahead)
    if not good:
        jumped = f", and what is dated in the future proves none ({', '.join(ahead)}): a clock jumped" if ahead else ""
        return f"{place} holds no good backup{jumped}; run `sre backup create`, then `sre backup verify`"
    newest = max(good, key=lambda item: item.taken)
    latest = max(good, key=lambda item: item.label.rpartition("_")[2])
    if latest is not newest:
        return (
            f"the newest good backup of {place} by its date, {newest.id}, was made before {latest.id}: a clock was set back, and "
            "no age is proven; run `sre backup create` once the clock is right"
        )
    age_s = (now - newest.taken).total_seconds()
    if age_s <= max_age_s:
        return None
    return (
        f"the newest good backup of {place}, {newest.id}, is {age_s / 3600:.1f} h old; the plan allows {max_age_s / 3600:.0f} h; "
        "see why the schedule did not run"
    )


def _count(good: list[SetState], policy: Policy, reasons: dict[str, list[str]]) -> None:
    """Note why days, weeks and months keep what they keep."""

    def week(day: date) -> str:
        return (day - timedelta(days=(day.weekday() - policy.week_begins) % 7)).isoformat()

    daily = {_day(item): item for item in good}  # the last of a day stands for it
    for day in sorted(daily)[-policy.daily :]:
        reasons[daily[day].id].append(f"daily {day}")
    weekly = _periods(good, list(daily.values()), week)
    for key in sorted(weekly)[-policy.weekly :]:
        reasons[weekly[key].id].append(f"weekly {key}")
    # A month without a full set is stood for by one that its week already keeps: the days of its beginning are long gone by then.
    monthly = _periods(good, sorted(weekly.values(), key=lambda item: item.taken), lambda day: f"{day:%Y-%m}")
    for key in sorted(monthly)[-policy.monthly :]:
        reasons[monthly[key].id].append(f"monthly {key}")


def _periods(good: list[SetState], instead: list[SetState], period: Callable[[date], str]) -> dict[str, SetState]:
    """The set that stands for each period: its first full one, the schedule's before a manual one; else the first `instead`."""
    if not good:
        return {}
    current = period(_day(good[-1]))
    found: dict[str, SetState] = {}
    for item in sorted((item for item in good if item.full), key=lambda item: (item.manual, item.taken)):
        found.setdefault(period(_day(item)), item)
    for item in instead:
        if (key := period(_day(item))) != current:
            found.setdefault(key, item)
    return found


def _day(item: SetState) -> date:
    return item.taken.astimezone(UTC).date()
