"""A backup of the whole system, made once for all tests of this module; each test damages only what it puts back."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sre.dr import backup, sets, vault
from sre.dr.backup_plan import PLAN, load
from sre.dr.sets import BackupSet, Place
from sre.dr.vault import ObjectRef
from sre.errors import StepFailed, TargetUnavailable
from sre.targets.local.target import LocalTarget, layout_of

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def made(system: LocalTarget) -> BackupSet:
    return backup.create(system.layout, "full")


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    whole = path.read_bytes()
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    try:
        yield
    finally:
        path.write_bytes(whole)
        path.chmod(mode)


def test_a_set_names_database_objects_and_registry_and_lies_in_both_places(system: LocalTarget, made: BackupSet) -> None:
    for place, root in sets.places(system.layout.home).items():
        found = sets.listing(root)
        assert found.sets[made.id] == made
        assert not found.damaged
        assert not vault.verify(root, made.objects)
        assert made.database.backups[place].label
    assert made.tables["mlflow.public.model_versions"].rows >= 1
    (model,) = made.registry.values()
    version = model.versions[model.aliases["production"]]
    assert {name.rpartition("/")[2] for name in version} >= {"model.onnx", "manifest.json", "golden.npz"}
    assert not sets.registry_gaps(made.registry, made.objects)


@pytest.mark.parametrize("place", ["store", "off_site"])
def test_a_whole_set_is_found_whole_and_counts_from_then_on(system: LocalTarget, made: BackupSet, place: Place) -> None:
    assert backup.verify(system.layout, made, place) == []
    assert sets.listing(sets.places(system.layout.home)[place]).health(made.id) == "good"


def test_a_damaged_object_and_a_damaged_database_file_are_named(system: LocalTarget, made: BackupSet) -> None:
    root = sets.places(system.layout.home)["store"]
    name, ref = next((name, ref) for name, ref in made.objects.items() if name.endswith("model.onnx"))
    with damaged(vault.path_of(root, ref.sha256)):
        assert name in " ".join(backup.verify(system.layout, made, "store"))
    file = max((root / "pgbackrest" / "backup").rglob("*.lz4"), key=lambda path: path.stat().st_size)
    with damaged(file):
        assert file.name.removesuffix(".lz4") in " ".join(backup.verify(system.layout, made, "store"))
    assert backup.verify(system.layout, made, "store") == []


def test_a_set_whose_database_backup_is_gone_is_no_set(system: LocalTarget, made: BackupSet) -> None:
    gone = made.database.backups["store"].model_copy(update={"label": "20200101-000000F"})
    database = made.database.model_copy(update={"backups": {"store": gone}})
    other = made.model_copy(update={"database": database})
    assert "20200101-000000F is not in the repository" in " ".join(backup.verify(system.layout, other, "store"))
    assert "no database backup in off_site" in " ".join(backup.verify(system.layout, other, "off_site"))
    backup.verify(system.layout, made, "store")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"system_id": "1"}, "of store is of database system"),
        ({"marker_wal": "0" * 8 + "F" * 16}, f"missing WAL {'0' * 8 + 'F' * 16}"),
        ({"backups": {"timeline": 9}}, "is not the one that set"),
    ],
)
def test_a_set_that_asks_for_another_database_than_lies_there_is_damaged(
    system: LocalTarget, made: BackupSet, changes: dict[str, Any], says: str
) -> None:
    if "backups" in changes:
        changes = {"backups": {"store": made.database.backups["store"].model_copy(update=changes["backups"])}}
    other = made.model_copy(update={"database": made.database.model_copy(update=changes)})
    (wrong,) = backup.verify(system.layout, other, "store")
    assert says in wrong
    assert backup.verify(system.layout, made, "store") == []


def test_a_registry_that_names_a_lost_file_makes_no_backup(system: LocalTarget, made: BackupSet, tmp_path: Path) -> None:
    (model,) = made.registry
    number = made.registry[model].aliases["production"]
    lost = system.layout.objects / backup.MODELS_BUCKET / model / number / "model.onnx"
    before = set(sets.listing(sets.places(system.layout.home)["store"]).sets)
    shutil.move(lost, tmp_path / "kept")
    try:
        with pytest.raises(StepFailed, match=r"the registry names what is not there.*model\.onnx is missing"):
            backup.create(system.layout, "diff")
    finally:
        shutil.move(tmp_path / "kept", lost)
    assert set(sets.listing(sets.places(system.layout.home)["store"]).sets) == before


def test_the_files_of_a_version_are_what_its_tag_and_manifest_say(tmp_path: Path) -> None:
    manifest = json.dumps({"variants": [{"file": "model.onnx", "sha256": "a" * 64}], "golden_sha256": "b" * 64}).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    vault.write_whole(vault.path_of(tmp_path, digest), [manifest])
    folder = "ml-models-production/m/1"
    objects = {f"{folder}/manifest.json": ObjectRef(sha256=digest, size=len(manifest))}
    expected = {f"{folder}/manifest.json": digest, f"{folder}/model.onnx": "a" * 64, f"{folder}/golden.npz": "b" * 64}
    assert backup._files(tmp_path, objects, folder, digest) == expected
    # An altered manifest is not believed: only what the tag vouches for is asked for.
    assert backup._files(tmp_path, objects, folder, "c" * 64) == {f"{folder}/manifest.json": "c" * 64}
    vault.path_of(tmp_path, digest).write_text("[]")
    with pytest.raises(StepFailed, match="restore the bucket"):
        backup._files(tmp_path, objects, folder, digest)


def test_pruning_tells_first_and_keeps_what_a_set_needs(system: LocalTarget, made: BackupSet) -> None:
    for place in sets.places(system.layout.home):
        backup.verify(system.layout, made, place)
    now = made.ended.timestamp()
    assert backup.prune(system.layout, load(PLAN), now, dry_run=True) == backup.prune(system.layout, load(PLAN), now)
    for root in sets.places(system.layout.home).values():
        assert made.id in sets.listing(root).sets
        assert not vault.verify(root, made.objects)


def test_a_home_that_never_ran_has_no_backups(system: LocalTarget, tmp_path: Path) -> None:
    with pytest.raises(TargetUnavailable, match="holds no system"):
        layout_of(tmp_path, system.layout.tools)
    empty = replace(system.layout, home=tmp_path, ports={})
    with pytest.raises(TargetUnavailable, match="holds no configuration of a database"):
        backup.stanza(empty)
