from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sre.config import PROJECT
from sre.dr import vault
from sre.dr.vault import ObjectRef, back_up, copy, hold, path_of, put, remove, restore, unneeded, verify, write_whole
from sre.errors import CannotRun, StepFailed
from tests.studies.backup_kill.folders import kill_once

HOUR = 3600.0
CONTENT = {"ml-datasets/one": b"1" * 5000, "ml-models-production/m/1/model.onnx": b"weights" * 1000, "ml-datasets/empty": b""}
DATASET, MODEL, EMPTY = CONTENT


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for name, content in {**CONTENT, "ml-backups/objects/aa/x": b"backup", "ml-datasets/.upload-1": b"half"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def ref(content: bytes) -> ObjectRef:
    return ObjectRef(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_object_is_stored_under_its_content(source: Path, root: Path) -> None:
    said: list[str] = []
    found = back_up(source, root, said.append)
    assert found == {name: ref(content) for name, content in CONTENT.items()}
    assert {path_of(root, item.sha256).read_bytes() for item in found.values()} == set(CONTENT.values())
    assert said == [f"{n} of 3 objects: {name}" for n, name in enumerate(sorted(CONTENT), 1)]
    assert verify(root, found) == []


def test_what_two_backups_share_is_there_once(source: Path, root: Path) -> None:
    first = back_up(source, root)
    inode = path_of(root, first[MODEL].sha256).stat().st_ino
    os.utime(path_of(root, first[MODEL].sha256), (0, 0))
    (source / "ml-datasets/copy").write_bytes(CONTENT[MODEL])
    second = back_up(source, root)
    assert len(files(root / "objects")) == 3
    state = path_of(root, second[MODEL].sha256).stat()
    assert state.st_ino == inode
    assert state.st_mtime > 0  # young again


def test_a_cold_object_is_backed_up_as_what_it_holds(source: Path, root: Path) -> None:
    (source / "ml-datasets/.cold").mkdir()
    (source / "ml-datasets/.cold/one.gz").write_bytes(gzip.compress(CONTENT[DATASET]))
    (source / DATASET).unlink()
    assert back_up(source, root)[DATASET] == ref(CONTENT[DATASET])
    (source / "ml-datasets/.cold/one.gz").write_bytes(gzip.compress(CONTENT[DATASET])[:-4])
    with pytest.raises(StepFailed, match=f"object {DATASET} cannot be backed up"):
        back_up(source, root)


def test_damage_in_the_vault_is_mended_by_the_next_backup(source: Path, root: Path) -> None:
    found = back_up(source, root)
    path_of(root, found[MODEL].sha256).write_bytes(b"WEIGHTS" * 1000)
    assert len(verify(root, found)) == 1
    assert back_up(source, root) == found
    assert verify(root, found) == []


def damage(root: Path, item: ObjectRef, how: str) -> None:
    path = path_of(root, item.sha256)
    content = bytearray(path.read_bytes())
    if how == "is missing":
        path.unlink()
    elif how == "is truncated":
        path.write_bytes(content[:-1])
    elif how == "is altered":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content + b"!")


@pytest.mark.parametrize("how", ["is missing", "is truncated", "is altered", "is longer"])
def test_every_damage_is_named_on_every_way(source: Path, root: Path, tmp_path: Path, how: str) -> None:
    found = back_up(source, root)
    damage(root, found[MODEL], how)
    words = rf"^object {MODEL} {how.replace('longer', 'altered')}.* in {root}$"
    (wrong,) = verify(root, found)
    assert re.search(words, wrong)
    with pytest.raises(StepFailed, match=words):
        restore(root, found, tmp_path / "into")
    assert files(tmp_path / "into") == sorted({DATASET, EMPTY})
    with pytest.raises(StepFailed, match=words):
        copy(root, tmp_path / "other", found)
    assert verify(tmp_path / "other", {name: found[name] for name in (DATASET, EMPTY)}) == []
    assert not path_of(tmp_path / "other", found[MODEL].sha256).exists()


def test_all_damage_is_told_at_once(source: Path, root: Path, tmp_path: Path) -> None:
    found = back_up(source, root)
    damage(root, found[MODEL], "is missing")
    damage(root, found[DATASET], "is altered")
    assert [line.split()[1] for line in verify(root, found)] == sorted([MODEL, DATASET])
    with pytest.raises(StepFailed, match=f"object {DATASET} is altered.*; object {MODEL} is missing"):
        restore(root, found, tmp_path / "into")


def test_an_object_that_cannot_be_read_is_named(source: Path, root: Path) -> None:
    found = back_up(source, root)
    path = path_of(root, found[MODEL].sha256)
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"no folder")
    assert verify(root, found) == [f"object {MODEL} cannot be read (Not a directory) in {root}"]


def test_a_restore_is_equal_and_goes_into_an_empty_place_only(source: Path, root: Path, tmp_path: Path) -> None:
    found = back_up(source, root)
    into = tmp_path / "into"
    restore(root, found, into)
    assert {name: (into / name).read_bytes() for name in files(into)} == CONTENT
    assert {(into / name).stat().st_mode & 0o777 for name in CONTENT} == {0o644}  # servers of another account read them
    with pytest.raises(CannotRun, match="is not empty; a restore goes into a new place"):
        restore(root, found, into)


def test_a_copy_elsewhere_is_whole_and_replaces_damage_there(source: Path, root: Path, tmp_path: Path) -> None:
    found, other = back_up(source, root), tmp_path / "other"
    copy(root, other, found)
    damage(other, found[MODEL], "is altered")
    copy(root, other, found)
    assert verify(other, found) == []


def test_content_that_changes_while_it_is_put_is_stored_as_what_was_written(root: Path) -> None:
    class Changing(io.BytesIO):
        def seek(self, *args: int) -> int:
            self.getbuffer()[0] ^= 1
            return super().seek(*args)

    found = put(root, Changing(b"abc"))
    assert found == ref(b"`bc")
    assert path_of(root, found.sha256).read_bytes() == b"`bc"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_a_plain_file_is_an_object(source: Path, root: Path, kind: str) -> None:
    found = back_up(source, root)
    path = path_of(root, found[MODEL].sha256)
    path.unlink()
    if kind == "link":
        path.symlink_to(source / MODEL)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    (wrong,) = verify(root, found)
    assert wrong.startswith(f"object {MODEL} is no plain file")


def age(path: Path, seconds: float) -> None:
    when = path.stat().st_mtime - seconds
    os.utime(path, (when, when))


def test_only_old_objects_that_nothing_names_are_removed(source: Path, root: Path) -> None:
    found = back_up(source, root)
    now = path_of(root, found[MODEL].sha256).stat().st_mtime + 1
    needed = {found[MODEL].sha256}
    assert unneeded(root, needed, now, 0) == []  # all are young
    for item in found.values():
        age(path_of(root, item.sha256), HOUR)
    for half in (root / "objects" / ".part-x", root / "sets" / ".part-y"):
        half.parent.mkdir(exist_ok=True)
        half.write_bytes(b"half")
        age(half, 2 * HOUR)
    listed = unneeded(root, needed, now)
    assert {path.name for path in listed} == {found[DATASET].sha256, found[EMPTY].sha256, ".part-x", ".part-y"}
    assert unneeded(root, needed, now, 30 * 24 * HOUR) == []
    # Meanwhile one is put again, and another is named by a new set.
    put(root, io.BytesIO(CONTENT[DATASET]))
    assert remove(listed, needed | {found[EMPTY].sha256}, now) == (2, 8)
    assert verify(root, found) == []
    assert remove([path for path in listed if path.exists()], needed, now) == (1, 0)
    assert [line.split()[1] for line in verify(root, found)] == [EMPTY]


def test_who_holds_a_vault_keeps_others_out_until_the_end(root: Path) -> None:
    with hold(root, "sre backup create"):
        with pytest.raises(CannotRun, match=rf"is held by `sre backup create, process {os.getpid()}`"), hold(root, "prune"):
            pass
        with pytest.raises(CannotRun, match="is held by"), hold(root, "prune", 0.15):
            pass
    with hold(root, "prune"):
        pass


def test_a_file_begun_by_the_dead_has_no_name(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom sre.dr.vault import hold, write_whole\n"
        "def pieces():\n    yield b'x' * 100_000\n    os.kill(os.getpid(), signal.SIGKILL)\n    yield b'y'\n"
        "with hold(Path(sys.argv[1]), 'dying'):\n    write_whole(Path(sys.argv[1]) / 'file', pieces())\n"
    )
    (tmp_path / "file").write_bytes(b"earlier")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, cwd=PROJECT)
    assert done.returncode == -9
    assert (tmp_path / "file").read_bytes() == b"earlier"
    with hold(tmp_path, "next"):  # the dead holds nothing
        write_whole(tmp_path / "file", [b"new"])
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> list[bytes]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "new" / "file", (piece for _ in [0] for piece in pieces()))
    assert files(tmp_path) == []


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_at_any_moment_leaves_earlier_sets_whole(tmp_path: Path, seed: int) -> None:
    killed = kill_once(tmp_path, seed, 0.3)
    assert killed.store >= killed.off_site >= 1


def test_an_unsafe_writer_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at what a kill left is not blind: a set file written in place and cut short is found."""
    real = vault.write_whole

    def cut_short(path: Path, pieces: list[bytes], mode: int = 0o640) -> None:
        data = b"".join(pieces)
        real(path, [data[: len(data) // 2] if path.parent.name == "sets" else data], mode)

    monkeypatch.setattr(vault, "write_whole", cut_short)
    with pytest.raises(AssertionError, match="is damaged"):
        kill_once(tmp_path, 1, 0.0)
