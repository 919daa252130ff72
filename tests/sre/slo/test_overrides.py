from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import EvidenceDamaged, UsageError
from sre.slo.overrides import FILE, Override, active, record, recorded

HOUR = 3600.0


def make_override(service: str = "serving", who: str = "Ada", why: str = "fixes the leak", hours: float = 2) -> Override:
    return Override(service=service, who=who, why=why, made=1000.0, until=1000.0 + hours * HOUR)


def test_an_override_holds_from_its_making_until_its_end_and_for_its_service_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert active(home, "serving", 1000.0) is None
    record(home, make_override(), longest=24 * HOUR)
    assert active(home, "serving", 999.0) is None
    assert active(home, "serving", 1000.0) == make_override()
    assert active(home, "serving", 1000.0 + 2 * HOUR) is None
    assert active(home, "training", 1000.0) is None


def test_the_newest_holds_and_none_is_forgotten(tmp_path: Path) -> None:
    record(tmp_path, make_override(), longest=24 * HOUR)
    record(tmp_path, make_override(who="Bob", hours=1), longest=24 * HOUR)
    assert [one.who for one in recorded(tmp_path)] == ["Ada", "Bob"]
    first, second = active(tmp_path, "serving", 1001.0), active(tmp_path, "serving", 1000.0 + 1.5 * HOUR)
    assert first is not None
    assert second is not None
    assert (first.who, second.who) == ("Bob", "Ada")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (make_override(who=" "), "an override needs a who; say it with --who"),
        (make_override(why=""), "an override needs a why; say it with --why"),
        (make_override(hours=25), "an override of 25 h is not allowed; the policy lets one last 24 h at most"),
        (make_override(hours=0), "an override of 0 h is not allowed"),
    ],
)
def test_what_nobody_answers_for_is_refused(tmp_path: Path, override: Override, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        record(tmp_path, override, longest=24 * HOUR)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"schema": "sre.slo-override/2"}', "is not of schema"),
        ('{"schema": "sre.slo-override/1", "service": "serving"}', "is no override"),
        ('["sre.slo-override/1"]', "is no override"),
        ("half a li", "is no override"),
    ],
)
def test_a_damaged_record_overrides_nothing(tmp_path: Path, line: str, said: str) -> None:
    record(tmp_path, make_override(), longest=24 * HOUR)
    with (tmp_path / FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(EvidenceDamaged, match=rf"{FILE}:2 {said}"):
        active(tmp_path, "serving", 1001.0)
