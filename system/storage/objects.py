"""The object store: buckets of immutable bytes under slash-separated keys, in a folder; `system.storage.s3` has the same in S3.

In a folder, `<root>/<bucket>/<key>` is a plain file, so any tool can read, copy and checksum a bucket. What was replaced or
deleted is kept as `.versions/<key>/<when>`, and objects that are read seldom lie compressed as `.cold/<key>.gz`; the bucket's
rules in `backups/plan.yaml` say for how long, and from when on.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from system.config import BUCKETS
from system.errors import StorageError

# No segment begins with a dot: that rules out "." and "..", and leaves such names to uploads that are not finished.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_UPLOAD, _COLD, _VERSIONS = ".upload-", ".cold", ".versions"
_PIECE = 1 << 20


class InvalidKey(StorageError):
    """The bucket is not one of ours, or the key could leave its bucket."""

    retryable = False


class ObjectMissing(StorageError):
    """There is no such object."""

    retryable = False


def open_store(url: str) -> ObjectStore:
    """The store behind a URL that `system.config` takes: a folder for file, an S3 server for s3 and, over TLS, s3+https.

    Raises:
        StorageError: the keys of the S3 account cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)))
    from system.storage.s3 import S3Store  # noqa: PLC0415 - a folder needs no S3 client, which takes memory and time

    return S3Store(f"{'https' if parts.scheme == 's3+https' else 'http'}://{parts.netloc}")


def check_bucket(bucket: str) -> None:
    """Refuse a bucket that is not one of ours.

    Raises:
        InvalidKey: it is not.
    """
    if bucket not in BUCKETS:
        raise InvalidKey(f"bucket {bucket!r} does not exist; there are {', '.join(BUCKETS)}")


def check_key(bucket: str, key: str) -> None:
    """Refuse a key that could leave its bucket, or that some store could not hold.

    Raises:
        InvalidKey: it could, or the bucket is not one of ours.
    """
    check_bucket(bucket)
    if not is_key(key):
        raise InvalidKey(
            f"key {key!r} of bucket {bucket} is not a path of plain names; "
            "use letters, digits, '.', '_', '-' between single slashes, with no dot in front"
        )


def is_key(text: str) -> bool:
    """Whether it is a path of plain names."""
    return _KEY.fullmatch(text) is not None


class ObjectStore(ABC):
    """Buckets of objects.

    Every method raises InvalidKey for a bucket outside `system.config.BUCKETS` or a key that is no path of plain names,
    and StorageError when what holds the objects refuses or does not answer.
    """

    @abstractmethod
    def get(self, bucket: str, key: str) -> bytes:
        """All bytes of one object.

        Raises:
            ObjectMissing: there is none under this key.
        """

    @abstractmethod
    def copy(self, bucket: str, key: str, into: Path) -> None:
        """Write one object to a file, in pieces: it may be larger than memory.

        Raises:
            ObjectMissing: there is none under this key.
        """

    @abstractmethod
    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write one object, whole and on disk, or not at all; an older one under the key becomes a version."""

    @abstractmethod
    def list(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted; empty for a bucket that nothing was put into."""

    @abstractmethod
    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is an object under the key."""

    @abstractmethod
    def delete(self, bucket: str, key: str) -> None:
        """Remove one object, which becomes a version; one that is not there is no error, as in S3."""


class FolderStore(ObjectStore):
    """Buckets in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, bucket: str, key: str) -> bytes:
        """All bytes of one object."""
        with self._reading(bucket, key) as file:
            return file.read()

    def copy(self, bucket: str, key: str, into: Path) -> None:
        """Write one object to a file, in pieces."""
        with self._reading(bucket, key) as file:
            try:
                with into.open("wb") as target:
                    shutil.copyfileobj(file, target, _PIECE)
            except OSError as error:
                raise _unusable("copy", bucket, key, error) from error

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write one object, whole and on disk, or not at all; an older one under the key becomes a version."""
        path = self._path(bucket, key)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UPLOAD, delete=False) as file:
                temporary = Path(file.name)
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would hide the object from the servers that read it
                os.fsync(file.fileno())
            if path.is_file():
                # Linked, not moved: at no moment is there no object under the key.
                os.link(path, self._version(bucket, key))
            temporary.replace(path)
            _sync_folder(path.parent)  # else a power cut can forget the new name
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise _unusable("write", bucket, key, error) from error

    def list(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted; empty for a bucket that nothing was put into."""
        folder = self._bucket(bucket)
        plain = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        cold = (path.relative_to(folder / _COLD).as_posix()[:-3] for path in (folder / _COLD).rglob("*.gz"))
        keys = {key for key in plain if is_key(key)} | set(cold)
        return sorted(key for key in keys if key.startswith(prefix))

    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is an object under the key."""
        return self._path(bucket, key).is_file() or self._cold(bucket, key).is_file()

    def delete(self, bucket: str, key: str) -> None:
        """Remove one object, which becomes a version; one that is not there is no error, as in S3."""
        try:
            for path, suffix in ((self._path(bucket, key), ""), (self._cold(bucket, key), ".gz")):
                if path.is_dir():
                    raise IsADirectoryError(f"{key} is a folder")
                if path.is_file():
                    path.rename(self._version(bucket, key, suffix))
        except OSError as error:
            raise _unusable("delete", bucket, key, error) from error

    @contextmanager
    def _reading(self, bucket: str, key: str) -> Iterator[IO[bytes]]:
        try:
            try:
                file: IO[bytes] = self._path(bucket, key).open("rb")
            except FileNotFoundError:
                # Reading it takes longer and changes nothing else.
                file = gzip.open(self._cold(bucket, key))  # type: ignore[assignment]  # noqa: SIM115 - closed below
            with file:
                yield file
        except FileNotFoundError:
            raise self._missing(bucket, key) from None
        except (OSError, EOFError, zlib.error) as error:
            raise _unusable("read", bucket, key, error) from error

    def _cold(self, bucket: str, key: str) -> Path:
        self._path(bucket, key)
        return self._bucket(bucket) / _COLD / f"{key}.gz"

    def _version(self, bucket: str, key: str, suffix: str = "") -> Path:
        folder = self._bucket(bucket) / _VERSIONS / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{suffix}"

    def _missing(self, bucket: str, key: str) -> ObjectMissing:
        return ObjectMissing(f"object {bucket}/{key} does not exist in {self.root}; `list` shows what does")

    def _bucket(self, bucket: str) -> Path:
        check_bucket(bucket)
        return self.root / bucket

    def _path(self, bucket: str, key: str) -> Path:
        check_key(bucket, key)
        return self.root / bucket / key


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(verb: str, bucket: str, key: str, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(f"cannot {verb} object {bucket}/{key}: {reason}; check the store's folder, space and rights")
