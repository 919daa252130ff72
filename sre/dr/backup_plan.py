"""The backup plan, `backups/plan.yaml`: read strictly, so that a mistyped line is refused and not half obeyed."""

from __future__ import annotations

import re
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sre import documents
from sre.config import PROJECT
from sre.units import Seconds

PLAN = PROJECT / "backups" / "plan.yaml"
BUCKETS = ("ml-models-staging", "ml-models-production", "ml-datasets", "ml-backups")

DAY_S = 86_400.0
_QUARTER_S = 92 * DAY_S  # July to September; the longest
_FOR_EVER = ("never", "for ever")

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def _time(value: Any) -> time:
    # YAML 1.1 reads a bare 12:00 as the number 720.
    if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError('write a time of day in quotes, as "02:00"')
    return time.fromisoformat(value)


def _duration(value: Any) -> Seconds:
    seconds = documents.duration(value, "26h or 30d")
    if seconds <= 0:
        raise ValueError("a duration of nothing would keep nothing")
    return seconds


def _duration_or_never(value: Any) -> Seconds | None:
    return None if value in _FOR_EVER else _duration(value)


TimeOfDay = Annotated[time, BeforeValidator(_time)]
Duration = Annotated[Seconds, BeforeValidator(_duration)]
DurationOrNever = Annotated[Seconds | None, BeforeValidator(_duration_or_never)]
Keep = Annotated[int, Field(ge=1, le=1000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Daily(_Part):
    """The backup of every day."""

    at: TimeOfDay
    kind: Literal["full", "diff"]
    keep: Keep


class Weekly(_Part):
    """The backup that the following differential ones rest on, therefore a full one."""

    at: TimeOfDay
    day: Weekday
    kind: Literal["full"]
    keep: Keep


class Monthly(_Part):
    """Which of the weekly backups is kept for months."""

    day: str
    keep: Keep


class Backups(_Part):
    """Runs and retention."""

    daily: Daily
    weekly: Weekly
    monthly: Monthly

    @model_validator(mode="after")
    def _one_weekday(self) -> Self:
        if self.monthly.day != f"first {self.weekly.day}":
            raise ValueError(f"monthly.day must be `first {self.weekly.day}`: the monthly backup is one of the weekly ones")
        return self


class Age(_Part):
    """How old the newest verified backup of a place may be."""

    max_age: Duration

    @model_validator(mode="after")
    def _longer_than_a_day(self) -> Self:
        if self.max_age <= DAY_S:
            raise ValueError("max_age must be longer than the day between two backups, for example 26h")
        return self


class Places(_Part):
    """Where backups lie: beside the system, and somewhere else."""

    store: Age
    off_site: Age


class At(_Part):
    """Something done once a day."""

    at: TimeOfDay


class QuarterlyTest(_Part):
    """The restore test of every quarter."""

    months: Annotated[list[Annotated[int, Field(ge=1, le=12)]], Field(min_length=4, max_length=4)]
    day_of_month: int = Field(ge=1, le=28)
    at: TimeOfDay
    place: Literal["store", "off_site"] = Field(alias="from")
    max_age: Duration

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if any(later - earlier != 3 for earlier, later in zip(self.months, self.months[1:], strict=False)):
            raise ValueError("months must be three apart, as [1, 4, 7, 10]")
        if self.max_age <= _QUARTER_S:
            raise ValueError("max_age must be longer than a quarter, or the test is overdue before it is due: 93d")
        return self


class Drill(_Part):
    """The restore drill of every week."""

    day: Weekday
    at: TimeOfDay
    place: Literal["store", "off_site"] = Field(alias="from")
    max_age: Duration

    @model_validator(mode="after")
    def _longer_than_a_week(self) -> Self:
        if self.max_age <= 7 * DAY_S:
            raise ValueError("max_age must be longer than a week, or the drill is overdue before it is due: 8d")
        return self


class Restore(_Part):
    """When restores are tried, and how old the evidence of the last try may be."""

    quarterly: QuarterlyTest
    drill: Drill

    @model_validator(mode="after")
    def _drill_is_stricter(self) -> Self:
        if self.drill.max_age >= self.quarterly.max_age:
            raise ValueError("drill.max_age must be below quarterly.max_age; the drill is the stricter of the two")
        return self


class Bucket(_Part):
    """What becomes of a bucket's objects as they grow old, s; None: nothing, ever.

    Attributes:
        expire_after: an object of that age is deleted, unless something still names it.
        cold_after: an object of that age is compressed in place.
        versions_for: how long a replaced or deleted object can still be had.
    """

    expire_after: DurationOrNever
    cold_after: DurationOrNever
    versions_for: DurationOrNever

    @model_validator(mode="after")
    def _cold_before_expired(self) -> Self:
        if None not in (self.expire_after, self.cold_after) and (self.cold_after or 0) >= (self.expire_after or 0):
            raise ValueError("cold_after must be shorter than expire_after, or nothing ever grows cold")
        return self


class Plan(_Part):
    """The whole plan. All times are UTC."""

    schema_: Literal["sre.backup-plan/1"] = Field(alias="schema")
    time_zone: Literal["UTC"]
    backups: Backups
    places: Places
    prune: At
    restore: Restore
    buckets: dict[str, Bucket]

    @model_validator(mode="after")
    def _all_buckets(self) -> Self:
        missing, unknown = [b for b in BUCKETS if b not in self.buckets], [b for b in self.buckets if b not in BUCKETS]
        if missing or unknown:
            raise ValueError(f"buckets must be {', '.join(BUCKETS)}; missing: {missing}, unknown: {unknown}")
        return self


def load(path: Path = PLAN) -> Plan:
    """Read the plan.

    Raises:
        UsageError: it is not there or not a plan; the message names the file, and line and field of everything wrong.
    """
    return documents.load(path, Plan)


def parse(text: str, name: str = PLAN.name) -> Plan:
    """Read the text of a plan.

    Args:
        text: YAML.
        name: of the file, for messages.

    Raises:
        UsageError: as `load` does.
    """
    return documents.parse(text, name, Plan)
