from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sre.dr import postgres
from sre.dr.postgres import base_backup, verify_backup
from sre.errors import StepFailed
from sre.targets.local.layout import Layout
from sre.targets.local.target import LocalTarget

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def original(system: LocalTarget, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup") / "database"
    base_backup(system.layout, folder)
    return folder


@pytest.fixture
def backup(original: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to damage."""
    shutil.copytree(original, tmp_path / "database")
    yield tmp_path / "database"
    shutil.rmtree(tmp_path / "database")


def table(folder: Path) -> Path:
    """The largest file of the backup's tables."""
    return max((folder / "base").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)


def test_a_backup_of_the_running_server_is_whole(original: Path, system: LocalTarget) -> None:
    verify_backup(system.layout, original)
    assert (original / "backup_manifest").read_text().count("SHA256") > 500


@pytest.mark.parametrize("sabotage", ["flip", "cut", "delete", "add", "wal", "manifest"])
def test_every_damage_is_found(backup: Path, system: LocalTarget, sabotage: str) -> None:
    victim = table(backup)
    if sabotage == "flip":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif sabotage == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif sabotage == "delete":
        victim.unlink()
    elif sabotage == "add":
        (backup / "base" / "foreign").touch()
    elif sabotage == "wal":
        for segment in (backup / "pg_wal").iterdir():
            if segment.is_file():
                segment.write_bytes(bytes(segment.stat().st_size))
    else:
        manifest = backup / "backup_manifest"
        manifest.write_text(manifest.read_text().replace('"Size": 8192', '"Size": 8193', 1))
    with pytest.raises(StepFailed, match=r"pg_verifybackup failed with 1: .+"):
        verify_backup(system.layout, backup)


def test_a_folder_that_is_not_empty_is_refused(system: LocalTarget, tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    with pytest.raises(StepFailed, match=r"pg_basebackup failed with 1: .*exists but is not empty"):
        base_backup(system.layout, tmp_path)
    assert (tmp_path / "letters").exists()


def test_a_server_that_is_away_is_told(system: LocalTarget, tmp_path: Path) -> None:
    away: Layout = replace(system.layout, ports={**system.layout.ports, "postgres": 1})
    with pytest.raises(StepFailed, match=r"pg_basebackup failed with 1: .*Connection refused"):
        base_backup(away, tmp_path / "database")


def test_a_backup_that_does_not_end_is_given_up(system: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "WITHIN_S", 0.01)
    with pytest.raises(StepFailed, match="pg_basebackup did not end within 0 s"):
        base_backup(system.layout, tmp_path / "database")
