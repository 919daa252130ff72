"""The files of a run and their checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKSUMS = "checksums.sha256"


def checksums(folder: Path, *, without: frozenset[str] = frozenset({CHECKSUMS})) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path with forward slashes, sorted."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: _sha(folder / name) for name in files if name not in without}


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
