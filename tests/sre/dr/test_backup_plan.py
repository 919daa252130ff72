from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from sre.dr import backup_plan
from sre.dr.backup_plan import BUCKETS, PLAN, Plan, load, parse
from sre.errors import UsageError
from system import config

TEXT = PLAN.read_text(encoding="utf-8")
DAY = 86_400


def line_of(fragment: str, text: str = TEXT) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if fragment in line)


def test_the_plan_says_what_was_promised() -> None:
    plan = load()
    daily, weekly, monthly = plan.backups.daily, plan.backups.weekly, plan.backups.monthly
    assert (daily.at, daily.kind, daily.keep) == (time(2), "diff", 7)
    assert (weekly.at, weekly.day, weekly.kind, weekly.keep) == (time(1), "sunday", "full", 4)
    assert (monthly.day, monthly.keep) == ("first sunday", 12)
    assert plan.restore.drill.max_age < plan.restore.quarterly.max_age
    rules = {name: (rule.expire_after, rule.cold_after) for name, rule in plan.buckets.items()}
    assert rules == {
        "ml-models-staging": (30 * DAY, None),
        "ml-models-production": (None, None),
        "ml-datasets": (None, 90 * DAY),
        "ml-backups": (30 * DAY, None),
    }
    assert plan.buckets["ml-models-production"].versions_for is None


def test_the_buckets_are_those_of_the_system() -> None:
    assert set(BUCKETS) == set(config.BUCKETS)


@pytest.mark.parametrize(
    ("old", "new", "at", "says"),
    [
        ('at: "02:00", kind', "at: 12:00, kind", "daily:", r"backups\.daily\.at is 720: write a time of day in quotes"),
        ('at: "02:00", kind', 'at: "24:00", kind', "daily:", r"is '24:00': write a time"),
        ("kind: diff", "kind: incr", "daily:", r"backups\.daily\.kind is 'incr': Input should be 'full' or 'diff'"),
        ("kind: full", "kind: diff", "weekly:", r"backups\.weekly\.kind is 'diff': Input should be 'full'"),
        ("keep: 7", "keep: 0", "daily:", r"backups\.daily\.keep is 0: Input should be greater than or equal to 1"),
        ("keep: 7", 'keep: "7"', "daily:", r"keep is '7': Input should be a valid integer"),
        ("keep: 7", "kept: 7", "daily:", r"backups\.daily\.keep: Field required.*backups\.daily\.kept is 7: Extra inputs"),
        ("first sunday", "first monday", "backups:", "monthly.day must be `first sunday`"),
        ("store: {max_age: 26h}", "store: {max_age: 24h}", "store:", "longer than the day between two backups"),
        ("store: {max_age: 26h}", "store: {max_age: 26}", "store:", "is 26: write a duration with its unit"),
        ("cold_after: 90d", "cold_after: 90 days", "ml-datasets:", r"duration '90 days' is not understood"),
        ("cold_after: 90d", "cold_after: 0d", "ml-datasets:", "would keep nothing"),
        ("ml-models-staging: {expire_after: 30d, cold_after: never", "ml-models-staging: {expire_after: 30d, cold_after: 30d",
         "ml-models-staging:", "cold_after must be shorter than expire_after"),
        ("[1, 4, 7, 10]", "[1, 4, 8, 10]", "quarterly:", "three apart"),
        ("[1, 4, 7, 10]", "[1, 4, 7, 13]", "quarterly:", r"restore\.quarterly\.months\.3 is 13"),
        ("max_age: 93d", "max_age: 90d", "quarterly:", "longer than a quarter"),
        ("max_age: 8d", "max_age: 7d", "drill:", "longer than a week"),
        ("max_age: 8d", "max_age: 93d", "restore:", "the drill is the stricter"),
        ("time_zone: UTC", "time_zone: Europe/Berlin", "time_zone", "time_zone is 'Europe/Berlin': Input should be 'UTC'"),
        ("sre.backup-plan/1", "sre.backup-plan/2", "schema:", "schema is 'sre.backup-plan/2'"),
        ("  ml-datasets:", "  ml-data:", "schema:", r"missing: \['ml-datasets'\], unknown: \['ml-data'\]"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_line_and_a_remedy(old: str, new: str, at: str, says: str) -> None:
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    with pytest.raises(UsageError, match=says) as raised:
        parse(text)
    assert str(raised.value).startswith(f"plan.yaml:{line_of(at, text)}: ")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        parse(TEXT.replace("keep: 7", "keep: 0").replace("keep: 4", "keep: -1"))
    assert "daily.keep is 0" in str(raised.value)
    assert "weekly.keep is -1" in str(raised.value)


def test_a_key_that_stands_twice_is_refused() -> None:
    text = TEXT.replace("places:\n", "places:\n  store: {max_age: 90h}\n")
    with pytest.raises(UsageError, match=rf"plan.yaml:{line_of('store: {max_age: 26h}', text)}: 'store' is set a second time"):
        parse(text)


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("a: [", r"plan.yaml:1 is not YAML"), ("- 1", "valid dictionary")])
def test_what_is_no_plan_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "plan.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"plan.yaml cannot be read"):
        load(path)


def test_a_plan_cannot_be_changed() -> None:
    plan: Plan = backup_plan.load()
    with pytest.raises(ValueError, match="frozen"):
        plan.time_zone = "UTC"  # type: ignore[misc]
