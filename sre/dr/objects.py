"""Object buckets: a copy, and checksums of every object on both sides."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

BACKUPS = "ml-backups"


def checksums(root: Path) -> dict[str, str]:
    """SHA-256 of every object, by `bucket/key`; the backups themselves are left out."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and name.parts[0] != BACKUPS:
            with path.open("rb") as file:
                found[str(name)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def copy(source: Path, into: Path) -> None:
    """Copy every bucket but that of the backups."""
    for bucket in sorted(source.iterdir()):
        if bucket.is_dir() and bucket.name != BACKUPS:
            shutil.copytree(bucket, into / bucket.name)
