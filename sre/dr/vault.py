"""Objects of backups, stored under their content: `objects/aa/SHA256`. What two backups share is there once.

A vault is a folder, as bucket `ml-backups` or its off-site copy. A file gets its name only when it is whole and on disk, so a
kill at any moment leaves earlier objects as they were; what was begun is a temporary file that `unneeded` finds.
Whoever writes or removes holds the vault (`hold`), so that nothing is removed that a backup under way has counted on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

from pydantic import BaseModel, ConfigDict, Field

from sre.dr import lifecycle
from sre.errors import CannotRun, StepFailed

OBJECTS, PART = "objects", ".part-"
YOUNG_S = 3600.0
_PIECE = 1 << 20

Say = Callable[[str], None]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ObjectRef(BaseModel):
    """One object's content: SHA-256 in hex and size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Sha256
    size: int = Field(ge=0)


@contextmanager
def hold(root: Path, doing: str, within_s: float = 0.0) -> Iterator[None]:
    """Keep every other writer out of a vault. A process that dies lets go.

    Args:
        root: of the vault; made where it is missing.
        doing: told to those who are kept out.
        within_s: how long to wait for another to end.

    Raises:
        CannotRun: another still holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + within_s
    with (root / ".lock").open("a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise CannotRun(f"{root} is held by `{file.read().strip()}`; wait for its end and try again") from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(f"{doing}, process {os.getpid()}")
        file.flush()
        yield


def path_of(root: Path, sha256: str) -> Path:
    """Where an object's content lies."""
    return root / OBJECTS / sha256[:2] / sha256


def back_up(source: Path, root: Path, say: Say = lambda _: None) -> dict[str, ObjectRef]:
    """Put every object of every bucket but `ml-backups` into the vault; cold ones as what they hold.

    Args:
        source: the object store's folder.
        root: of the vault, held by the caller.
        say: gets a line of progress.

    Returns:
        The objects by `bucket/key`.

    Raises:
        StepFailed: an object vanished or cannot be read.
    """
    found: dict[str, ObjectRef] = {}
    listed = lifecycle.objects(source)
    for number, (name, path) in enumerate(listed.items(), 1):
        say(f"{number} of {len(listed)} objects: {name}")
        try:
            with lifecycle.reading(path) as file:
                found[name] = put(root, file)
        except (OSError, EOFError) as error:
            raise StepFailed(f"object {name} cannot be backed up: {error}; is its bucket whole?") from error
    return found


def put(root: Path, file: IO[bytes]) -> ObjectRef:
    """Store what a seekable file holds; content that is there and whole is used again, damaged content is replaced.

    Returns:
        What is in the vault now, whatever the file did meanwhile.
    """
    ref = digest(file)
    path = path_of(root, ref.sha256)
    if _wrong(path, ref) is None:
        os.utime(path)  # young again, so that no removal under way takes it
        return ref
    file.seek(0)
    return _store(root, file)


def digest(file: IO[bytes]) -> ObjectRef:
    """Checksum and size of what a file holds from here on, read in pieces."""
    sha256, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        sha256.update(piece)
        size += len(piece)
    return ObjectRef(sha256=sha256.hexdigest(), size=size)


def verify(root: Path, objects: Mapping[str, ObjectRef], say: Say = lambda _: None) -> list[str]:
    """Read every object again; a sentence for each one missing, truncated or altered, by `bucket/key`."""
    wrong = []
    checked: dict[ObjectRef, str | None] = {}
    for number, (name, ref) in enumerate(sorted(objects.items()), 1):
        say(f"{number} of {len(objects)} objects: {name}")
        if ref not in checked:
            checked[ref] = _wrong(path_of(root, ref.sha256), ref)
        if why := checked[ref]:
            wrong.append(f"object {name} {why} in {root}")
    return wrong


def restore(root: Path, objects: Mapping[str, ObjectRef], into: Path, say: Say = lambda _: None) -> None:
    """Write every object as `into/bucket/key`, its checksum taken from the bytes that were written.

    Args:
        root: of the vault; stays as it is.
        objects: by `bucket/key`.
        into: a folder that is missing or empty.
        say: gets a line of progress.

    Raises:
        CannotRun: the folder holds something.
        StepFailed: an object is missing or altered; the message names every such one. The others are there.
    """
    if into.exists() and any(into.iterdir()):
        raise CannotRun(f"{into} is not empty; a restore goes into a new place, never over one")
    wrong = []
    for number, (name, ref) in enumerate(sorted(objects.items()), 1):
        say(f"{number} of {len(objects)} objects: {name}")
        target = into / name
        try:
            with path_of(root, ref.sha256).open("rb") as file:
                write_whole(target, _checked(file, ref), mode=0o644)
        except (OSError, ValueError) as error:
            wrong.append(f"object {name} {_words(error)} in {root}")
    if wrong:
        raise StepFailed("; ".join(wrong))


def copy(root: Path, other: Path, objects: Mapping[str, ObjectRef], say: Say = lambda _: None) -> None:
    """Bring objects to another vault, each checked as it is written; whole ones there are left, damaged ones replaced.

    Raises:
        StepFailed: an object is missing or altered here; the message names every such one. The others are there.
    """
    wrong = []
    for number, (name, ref) in enumerate(sorted(objects.items()), 1):
        say(f"{number} of {len(objects)} objects: {name}")
        target = path_of(other, ref.sha256)
        if _wrong(target, ref) is None:
            os.utime(target)
            continue
        try:
            with path_of(root, ref.sha256).open("rb") as file:
                write_whole(target, _checked(file, ref))
        except (OSError, ValueError) as error:
            wrong.append(f"object {name} {_words(error)} in {root}")
    if wrong:
        raise StepFailed("; ".join(wrong))


def unneeded(root: Path, needed: Iterable[str], now: float, older_than_s: float = YOUNG_S) -> list[Path]:
    """Objects that nothing names, and temporary files, older than an age; the first phase of removing.

    Args:
        root: of the vault.
        needed: SHA-256 of every object that a set names.
        now: wall clock, s.
        older_than_s: since it was last put; at least an hour counts.
    """
    keep, oldest = frozenset(needed), now - max(older_than_s, YOUNG_S)
    files = [path for path in (root / OBJECTS).rglob("*") if path.is_file()]
    files += [path for folder in root.glob("*") for path in folder.glob(f"{PART}*")]
    return sorted({path for path in files if path.name not in keep and path.stat().st_mtime < oldest})


def remove(paths: Iterable[Path], needed: Iterable[str], now: float, older_than_s: float = YOUNG_S) -> tuple[int, int]:
    """Delete what `unneeded` listed, unless it is needed or young by now; the second phase. The caller holds the vault.

    Args:
        paths: as listed.
        needed: read anew after the listing.
        now: as in the listing.
        older_than_s: as in the listing.

    Returns:
        Files and bytes.
    """
    keep, oldest = frozenset(needed), now - max(older_than_s, YOUNG_S)
    files = size = 0
    for path in paths:
        state = path.stat()
        if path.name not in keep and state.st_mtime < oldest:
            path.unlink()
            files, size = files + 1, size + state.st_size
    return files, size


def write_whole(path: Path, pieces: Iterable[bytes], mode: int = 0o640) -> None:
    """Write a file under its name, whole and on disk, or not at all."""
    _make(path.parent)
    with _part(path.parent) as (file, part):
        for piece in pieces:
            file.write(piece)
        _finish(file, part, path, mode)


@contextmanager
def _part(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    file = tempfile.NamedTemporaryFile(dir=folder, prefix=PART, delete=False)  # noqa: SIM115 - it is renamed or removed below
    part = Path(file.name)
    try:
        with file:
            yield file, part
    finally:
        part.unlink(missing_ok=True)


def _finish(file: IO[bytes], part: Path, path: Path, mode: int) -> None:
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)  # else a power cut can forget the new name


def _make(folder: Path) -> None:
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _store(root: Path, source: IO[bytes]) -> ObjectRef:
    """Store under the checksum of the bytes that were written."""
    folder = root / OBJECTS
    _make(folder)
    with _part(folder) as (file, part):
        shutil.copyfileobj(source, file, _PIECE)
        file.flush()
        with part.open("rb") as written:
            ref = digest(written)
        path = path_of(root, ref.sha256)
        _make(path.parent)
        _finish(file, part, path, 0o640)
    return ref


def _checked(file: IO[bytes], ref: ObjectRef) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
        yield piece
    if why := _difference(digest.hexdigest(), size, ref):
        raise ValueError(why)


def _wrong(path: Path, ref: ObjectRef) -> str | None:
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode):
            return "is no plain file: whatever it leads to is no part of the backup"
        if state.st_size < ref.size:
            return _difference("", state.st_size, ref)
        with path.open("rb") as file:
            found = digest(file)
        return _difference(found.sha256, found.size, ref)
    except OSError as error:
        return _words(error)


def _difference(sha256: str, size: int, ref: ObjectRef) -> str | None:
    if size < ref.size:
        return f"is truncated: {size:,} of {ref.size:,} bytes"
    if sha256 != ref.sha256:
        return f"is altered: sha256 {sha256[:12]}... instead of {ref.sha256[:12]}..."
    return None


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
