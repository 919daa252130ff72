"""The object store: buckets of immutable bytes under slash-separated keys, kept in one folder.

`<root>/<bucket>/<key>` is a plain file, so any tool can read, copy and checksum a bucket.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from system.config import BUCKETS
from system.errors import StorageError

# No segment begins with a dot: that rules out "." and "..", and leaves such names to uploads that are not finished.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_UPLOAD = ".upload-"


class InvalidKey(StorageError):
    """The bucket is not one of ours, or the key could leave its bucket."""

    retryable = False


class ObjectMissing(StorageError):
    """There is no such object."""

    retryable = False


class ObjectStore:
    """Buckets in a folder.

    Every method raises InvalidKey for a bucket outside `system.config.BUCKETS` or a key that is no path of plain names,
    and StorageError when the file system refuses.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, bucket: str, key: str) -> bytes:
        """All bytes of one object.

        Raises:
            ObjectMissing: there is none under this key.
        """
        try:
            return self._path(bucket, key).read_bytes()
        except FileNotFoundError:
            raise self._missing(bucket, key) from None
        except OSError as error:
            raise _unusable("read", bucket, key, error) from error

    def copy(self, bucket: str, key: str, into: Path) -> None:
        """Write one object to a file, in pieces: it may be larger than memory.

        Raises:
            ObjectMissing: there is none under this key.
        """
        path = self._path(bucket, key)
        try:
            shutil.copyfile(path, into)
        except OSError as error:
            if not path.exists():
                raise self._missing(bucket, key) from None
            raise _unusable("copy", bucket, key, error) from error

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write one object, whole and on disk, or not at all; an older one under the key is replaced."""
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
            temporary.replace(path)
            _sync_folder(path.parent)  # else a power cut can forget the new name
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise _unusable("write", bucket, key, error) from error

    def list(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted; empty for a bucket that nothing was put into."""
        folder = self._bucket(bucket)
        keys = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return sorted(key for key in keys if key.startswith(prefix) and _UPLOAD not in key)

    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is an object under the key."""
        return self._path(bucket, key).is_file()

    def delete(self, bucket: str, key: str) -> None:
        """Remove one object; one that is not there is no error, as in S3."""
        try:
            self._path(bucket, key).unlink(missing_ok=True)
        except OSError as error:
            raise _unusable("delete", bucket, key, error) from error

    def _missing(self, bucket: str, key: str) -> ObjectMissing:
        return ObjectMissing(f"object {bucket}/{key} does not exist in {self.root}; `list` shows what does")

    def _bucket(self, bucket: str) -> Path:
        if bucket not in BUCKETS:
            raise InvalidKey(f"bucket {bucket!r} does not exist; there are {', '.join(BUCKETS)}")
        return self.root / bucket

    def _path(self, bucket: str, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidKey(
                f"key {key!r} of bucket {bucket} is not a path of plain names; "
                "use letters, digits, '.', '_', '-' between single slashes, with no dot in front"
            )
        return self._bucket(bucket) / key


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(verb: str, bucket: str, key: str, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(f"cannot {verb} object {bucket}/{key}: {reason}; check the store's folder, space and rights")
