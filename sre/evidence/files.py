"""The files of a run and their checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKSUMS = "checksums.sha256"
ATTESTATION = "attestation.json"


def checksums(folder: Path, *, without: frozenset[str] = frozenset({ATTESTATION})) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path with forward slashes, sorted."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: _sha(folder / name) for name in files if name not in without}


def strangers(folder: Path) -> list[str]:
    """What lies below `folder` and is neither a plain file nor a folder, such as a link to a file elsewhere."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir()))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
