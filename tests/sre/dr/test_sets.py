from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sre.dr import sets, vault
from sre.dr.retention import Health, keep
from sre.dr.sets import BackupSet, Database, DatabaseBackup, RegisteredModel, Table, aliased, registry_gaps
from sre.dr.vault import ObjectRef
from sre.errors import EvidenceDamaged, StepFailed
from tests.sre.dr.test_retention import POLICY

BEGAN = datetime(2026, 11, 24, 2, tzinfo=UTC)
NAME = "ml-models-production/digits/1/model.onnx"


def backup(label: str) -> DatabaseBackup:
    return DatabaseBackup(label=label, timeline=1, start_lsn="0/2000028", stop_lsn="0/2000100")


def a_set(root: Path, began: datetime = BEGAN, content: bytes = b"weights", **changes: Any) -> BackupSet:
    ref = vault.put(root, io.BytesIO(content))
    fields: dict[str, Any] = {
        "id": sets.set_id(began, "full"), "kind": "full", "reason": "daily",
        "began": began, "ended": began + timedelta(minutes=1),
        "database": Database(
            stanza="ml", system_id="7412345678901234567", marker=f"sre-{began:%Y%m%dT%H%M%SZ}", marker_wal="0" * 24,
            backups={"store": backup(f"{began:%Y%m%d-%H%M%S}F")},
        ),
        "objects": {NAME: ref},
        "tables": {"mlflow.public.runs": Table(rows=3, checksum="00ff")},
        "registry": {"digits": RegisteredModel(versions={"1": {NAME: ref.sha256}}, aliases={"production": "1"})},
        "tools": {"pgbackrest": "2.45", "postgres": "15.18"},
    }  # fmt: skip
    return BackupSet(**(fields | changes))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    item = a_set(tmp_path)
    path = sets.write(tmp_path, item)
    assert path == tmp_path / "sets" / "20261124T020000Z-full.json"
    assert json.loads(path.read_bytes())["schema"] == "sre.backup/1"
    assert sets.parse(path.read_bytes(), path.name) == item
    found = sets.listing(tmp_path)
    assert found.sets == {item.id: item}
    assert not found.damaged
    assert found.needed() == {item.objects[NAME].sha256}


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    data = sets.dump(a_set(tmp_path))
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(EvidenceDamaged, match=r"sets/one\.json is damaged: "):
            sets.parse(flipped, "sets/one.json")


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_file_cut_short_is_no_set(tmp_path: Path, length: int) -> None:
    with pytest.raises(EvidenceDamaged):
        sets.parse(sets.dump(a_set(tmp_path))[:length], "one")


def test_a_content_with_a_checksum_made_to_fit_must_still_be_a_set(tmp_path: Path) -> None:
    with pytest.raises(EvidenceDamaged, match=r"it is no sre\.backup/1"):
        sets.parse(b"[1]", "one")
    with pytest.raises(EvidenceDamaged, match=r"it is no sre\.backup/1"):
        sets.parse(b"{}", "one")
    with pytest.raises(EvidenceDamaged, match="is damaged: set"):
        sets.parse(b'{"schema": "sre.backup/1", "set": 1}', "one")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "20261124T020001Z-full"}, "is not that of a full set begun at"),
        ({"ended": BEGAN - timedelta(seconds=1)}, "ended before it began"),
        ({"kind": "diff", "id": "20261124T020000Z-diff"}, "do not make a diff backup"),
        ({"began": datetime(2026, 11, 24, 2)}, "timezone"),  # noqa: DTZ001 - the point
        ({"objects": {"ml-datasets/../../etc/passwd": ObjectRef(sha256="0" * 64, size=1)}}, "not bucket/key of plain names"),
        ({"began": BEGAN.astimezone(timezone(timedelta(hours=1)))}, "times of a set are UTC"),
        ({"objects": {"/etc/passwd": ObjectRef(sha256="0" * 64, size=1)}}, "not bucket/key of plain names"),
        ({"extra": 1}, "Extra inputs"),
        ({"reason": "hourly"}, "Input should be"),
        ({"tables": {"t": {"rows": -1, "checksum": "0"}}}, "greater than or equal to 0"),
    ],
)
def test_a_set_that_contradicts_itself_cannot_be_made(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_set(tmp_path, **changes)


def test_a_set_is_never_written_over_nor_without_its_objects(tmp_path: Path) -> None:
    item = a_set(tmp_path)
    sets.write(tmp_path, item)
    with pytest.raises(StepFailed, match="is never written over"):
        sets.write(tmp_path, item)
    with pytest.raises(StepFailed, match=rf"names objects that .* lacks: {NAME}"):
        sets.write(tmp_path / "elsewhere", item)


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    good = a_set(tmp_path)
    sets.write(tmp_path, good)
    other = sets.write(tmp_path, a_set(tmp_path, BEGAN + timedelta(days=1)))
    other.write_bytes(other.read_bytes().replace(b'"rows":3', b'"rows":4'))
    (tmp_path / "sets" / "20261126T020000Z-full.json").write_bytes(sets.dump(good))
    (tmp_path / "sets" / "letter.txt").touch()
    (tmp_path / "sets" / ".part-half").write_bytes(b"{")
    found = sets.listing(tmp_path)
    assert list(found.sets) == [good.id]
    assert found.damaged.keys() == {f"sets/{name}" for name in (other.name, "20261126T020000Z-full.json", "letter.txt")}
    assert "its content is not what its checksum was made of" in found.damaged[f"sets/{other.name}"]
    assert "holds the set 20261124T020000Z-full" in found.damaged["sets/20261126T020000Z-full.json"]
    with pytest.raises(EvidenceDamaged, match=r"letter\.txt is damaged.*it may need any object"):
        found.needed()


def test_a_set_whose_check_alone_is_left_was_lost(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    item = a_set(here)
    path = sets.write(here, item)
    sets.copy(here, there, item)
    sets.write_check(here, item, [], BEGAN.timestamp())
    path.unlink()
    found = sets.listing(here)
    assert found.damaged == {
        f"sets/{path.name}": f"sets/{path.name} is missing, and checks/{path.name} tells that it was there in {here}"
    }
    with pytest.raises(EvidenceDamaged, match="it may need any object"):
        found.needed()
    assert sets.repair(here, there) == [f"sets/{path.name}"]
    assert sets.listing(here).health(item.id) is Health.GOOD
    sets.remove(here, item.id)
    sets.write_check(here, item, [], BEGAN.timestamp())  # by a verification that had begun before
    assert not sets.listing(here).damaged


def test_two_sets_of_one_database_backup_are_a_set_and_a_copy(tmp_path: Path) -> None:
    item = a_set(tmp_path)
    twin = a_set(tmp_path, BEGAN + timedelta(seconds=1), database=item.database)
    for one in (item, twin):
        sets.write(tmp_path, one)
    found = sets.listing(tmp_path)
    assert list(found.sets) == [item.id]
    assert f"names the database backup 20261124-020000F of set {item.id}" in found.damaged[f"sets/{twin.id}.json"]


def test_an_empty_place_holds_nothing(tmp_path: Path) -> None:
    found = sets.listing(tmp_path / "nowhere")
    assert (found.sets, found.damaged, found.needed()) == ({}, {}, frozenset())


def test_a_set_counts_once_it_is_verified(tmp_path: Path) -> None:
    item = a_set(tmp_path)
    sets.write(tmp_path, item)
    assert sets.listing(tmp_path).health(item.id) is Health.UNVERIFIED
    sets.write_check(tmp_path, item, [], BEGAN.timestamp())
    assert [state.health for state in sets.listing(tmp_path).states("store")] == [Health.GOOD]
    sets.write_check(tmp_path, item, ["object is altered"], BEGAN.timestamp())
    found = sets.listing(tmp_path)
    assert found.health(item.id) is Health.DAMAGED
    assert found.checks[item.id].wrong == ["object is altered"]


def test_a_check_of_another_content_or_a_damaged_one_proves_nothing(tmp_path: Path) -> None:
    item = a_set(tmp_path)
    sets.write(tmp_path, item)
    sets.write_check(tmp_path, a_set(tmp_path, reason="manual"), [], BEGAN.timestamp())
    assert sets.listing(tmp_path).health(item.id) is Health.UNVERIFIED
    sets.write_check(tmp_path, item, ["wrong"], BEGAN.timestamp())
    path = tmp_path / "checks" / f"{item.id}.json"
    path.write_bytes(path.read_bytes().replace(b'"wrong":["wrong"]', b'"wrong":[]'))
    found = sets.listing(tmp_path)
    assert found.health(item.id) is Health.UNVERIFIED
    assert list(found.damaged) == [f"checks/{item.id}.json"]
    assert found.needed()  # a check needs no object


def test_states_are_what_retention_reads(tmp_path: Path) -> None:
    for day in range(2):
        item = a_set(tmp_path, BEGAN + timedelta(days=day))
        sets.write(tmp_path, item)
        sets.write_check(tmp_path, item, [], BEGAN.timestamp())
    kept = keep(sets.listing(tmp_path).states("store"), BEGAN + timedelta(days=2), POLICY)
    assert kept["20261125T020000Z-full"] == ("daily 2026-11-25", "newest good")


def test_a_set_without_a_database_backup_in_a_place_is_no_good_one_there(tmp_path: Path) -> None:
    full, diff = backup("20261122-010000F"), backup("20261122-010500F_20261124-020000D")
    database = Database(stanza="ml", system_id="1", marker="m", marker_wal="0" * 24, backups={"store": full, "off_site": diff})
    both = a_set(tmp_path, kind="diff", id=sets.set_id(BEGAN, "diff"), database=database)
    one = a_set(tmp_path, BEGAN + timedelta(days=1))
    for item in (both, one):
        sets.write(tmp_path, item)
        sets.write_check(tmp_path, item, [], 0.0)
    found = sets.listing(tmp_path)
    assert [(state.full, state.health) for state in found.states("store")] == [(True, Health.GOOD), (True, Health.GOOD)]
    assert [(state.full, state.health) for state in found.states("off_site")] == [(False, Health.GOOD), (True, Health.DAMAGED)]
    assert found.states("off_site")[0].rests_on == "20261122-010500F"


def test_removing_takes_the_check_along(tmp_path: Path) -> None:
    item = a_set(tmp_path)
    sets.write(tmp_path, item)
    sets.write_check(tmp_path, item, [], 0.0)
    sets.remove(tmp_path, item.id)
    sets.remove(tmp_path, item.id)
    assert not list((tmp_path / "sets").iterdir()) + list((tmp_path / "checks").iterdir())
    with pytest.raises(StepFailed, match="is not the id of a backup set"):
        sets.remove(tmp_path, "../objects")


def test_a_copy_elsewhere_is_whole_and_brings_back_a_damaged_file(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    item = a_set(here)
    path = sets.write(here, item)
    sets.copy(here, there, item)
    sets.copy(here, there, item)
    assert sets.listing(there).sets == {item.id: item}
    assert vault.verify(there, item.objects) == []
    path.write_bytes(path.read_bytes()[:-9])
    assert sets.repair(here, there) == [f"sets/{path.name}"]
    assert sets.listing(here).sets == {item.id: item}
    assert sets.repair(here, there) == []


def test_a_copy_of_a_damaged_set_is_none(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    item = a_set(here)
    vault.path_of(here, item.objects[NAME].sha256).write_bytes(b"WEIGHTS")
    with pytest.raises(StepFailed, match=f"object {NAME} is altered"):
        sets.copy(here, there, item)
    assert not sets.listing(there).sets


SHA, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("versions", "aliases", "expected"),
    [
        ({"1": {NAME: SHA}}, {"production": "1"}, []),
        ({"1": {NAME: SHA}}, {"production": "2"}, ["model digits: alias production names version 2, which does not exist"]),
        ({"1": {}}, {}, ["model digits version 1 has no files"]),
        ({"1": {"ml-models-production/gone": SHA}}, {}, ["model digits version 1: ml-models-production/gone is missing"]),
        ({"1": {NAME: OTHER}}, {}, [f"model digits version 1: {NAME} is not what was registered"]),
    ],
)
def test_registry_gaps(versions: dict[str, dict[str, str]], aliases: dict[str, str], expected: list[str]) -> None:
    registry = {"digits": RegisteredModel(versions=versions, aliases=aliases)}
    assert registry_gaps(registry, {NAME: ObjectRef(sha256=SHA, size=1)}) == expected


def test_what_an_alias_names() -> None:
    registry = {
        "digits": RegisteredModel(versions={"1": {"b/old": SHA}, "2": {NAME: SHA}}, aliases={"production": "2", "lost": "9"})
    }
    assert aliased(registry) == {NAME}
