from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sre.dr import objects


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "objects"
    for name, content in {"a/one": b"1", "a/deep/two": b"22", "b/empty": b"", "ml-backups/x/one": b"backup"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_every_object_is_summed_and_backups_are_left_out(store: Path) -> None:
    assert objects.checksums(store) == {
        "a/deep/two": hashlib.sha256(b"22").hexdigest(),
        "a/one": hashlib.sha256(b"1").hexdigest(),
        "b/empty": hashlib.sha256(b"").hexdigest(),
    }


def test_a_copy_holds_the_same_and_no_backups(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    objects.copy(store, copy)
    assert objects.checksums(copy) == objects.checksums(store)
    assert not (copy / objects.BACKUPS).exists()


@pytest.mark.parametrize("sabotage", ["flip", "cut", "delete", "add"])
def test_every_change_of_a_copy_is_found(store: Path, tmp_path: Path, sabotage: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    objects.copy(store, copy)
    victim = copy / "a/deep/two"
    if sabotage == "flip":
        victim.write_bytes(bytes([victim.read_bytes()[0] ^ 1]) + victim.read_bytes()[1:])
    elif sabotage == "cut":
        victim.write_bytes(b"2")
    elif sabotage == "delete":
        victim.unlink()
    else:
        (copy / "a/three").write_bytes(b"3")
    there, back = objects.checksums(store), objects.checksums(copy)
    assert {name for name in there | back if there.get(name) != back.get(name)} == {
        "a/three" if sabotage == "add" else "a/deep/two"
    }
