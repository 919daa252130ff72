from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sre.dr import backup_plan, pruning, sets, vault
from sre.errors import EvidenceDamaged
from tests.sre.dr.test_sets import BEGAN, NAME, a_set

PLAN = backup_plan.load()
DAY = 86_400.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty nights, each with content of its own."""
    for night in range(40):
        item = a_set(tmp_path, BEGAN + timedelta(days=night), b"%d" % night)
        sets.write(tmp_path, item)
        sets.write_check(tmp_path, item, [], item.ended.timestamp())
        os.utime(vault.path_of(tmp_path, item.objects[NAME].sha256), (item.began.timestamp(),) * 2)
    return tmp_path


NOW = (BEGAN + timedelta(days=39, hours=1)).timestamp()


def test_a_look_changes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    found = pruning.plan_for(root, "store", PLAN, NOW)
    assert sorted(root.rglob("*")) == before
    assert len(found.kept) + len(found.dropped) == 40
    assert found.labels == {sets.listing(root).sets[name].database.backups["store"].label for name in found.kept}


def test_sets_go_first_and_objects_once_they_are_old(root: Path) -> None:
    found = pruning.plan_for(root, "store", PLAN, NOW)
    pruning.drop_sets(root, found)
    left = sets.listing(root).sets
    assert list(left) == list(found.kept)
    # Of the first ten nights all are older than 30 days; those that a kept set names stay.
    old = {f"{BEGAN + timedelta(days=night):%Y%m%dT%H%M%SZ}-full" for night in range(10)}
    files, _ = pruning.drop_objects(root, found, PLAN, NOW)
    assert files == len(old - set(found.kept)) > 5
    for item in left.values():
        assert vault.verify(root, item.objects) == []
    # Choosing again finds nothing more to drop; the younger objects go when their time comes.
    assert pruning.plan_for(root, "store", PLAN, NOW).dropped == ()
    later = pruning.plan_for(root, "store", PLAN, NOW + 40 * DAY)
    pruning.drop_objects(root, later, PLAN, NOW + 40 * DAY)
    assert len([path for path in (root / "objects").rglob("*") if path.is_file()]) == len(left)


def test_an_object_that_a_set_written_meanwhile_names_stays(root: Path) -> None:
    found = pruning.plan_for(root, "store", PLAN, NOW)
    pruning.drop_sets(root, found)
    victim = found.objects[0]
    content, age = victim.read_bytes(), victim.stat().st_mtime
    item = a_set(root, BEGAN + timedelta(days=40), content)
    sets.write(root, item)
    os.utime(victim, (age, age))  # as if its clock were wrong
    pruning.drop_objects(root, found, PLAN, NOW)
    assert vault.verify(root, item.objects) == []


@pytest.mark.parametrize("step", ["look", "drop"])
def test_nothing_goes_while_a_set_cannot_be_read(root: Path, step: str) -> None:
    found = pruning.plan_for(root, "store", PLAN, NOW)
    path = root / "sets" / f"{found.dropped[0]}.json"
    path.write_bytes(path.read_bytes()[:-5])
    do: dict[str, Callable[[], object]] = {
        "look": lambda: pruning.plan_for(root, "store", PLAN, NOW),
        "drop": lambda: pruning.drop_objects(root, found, PLAN, NOW),
    }
    with pytest.raises(EvidenceDamaged, match="it may need any object; bring its file back from the other place"):
        do[step]()


def test_in_a_place_without_database_backups_nothing_is_good_and_all_stays(root: Path) -> None:
    found = pruning.plan_for(root, "off_site", PLAN, NOW)
    assert len(found.kept) == 40
    assert found.labels == frozenset()
