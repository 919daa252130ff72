"""What is done to one file. Every change puts another file in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.studies.corruption.scene import rewrite

Change = Callable[[Path], None]


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))


def cut(path: Path) -> None:
    """The last bytes are gone."""
    rewrite(path, path.read_bytes()[:-7])


def halve(path: Path) -> None:
    """Written up to the middle."""
    content = path.read_bytes()
    rewrite(path, content[: len(content) // 2])


def unwritten(path: Path) -> None:
    """As long as it should be, and zeros from the middle on: what a power cut leaves."""
    content = path.read_bytes()
    rewrite(path, content[: len(content) // 2].ljust(len(content), b"\0"))


def empty(path: Path) -> None:
    """Nothing in it."""
    rewrite(path, b"")


def grow(path: Path) -> None:
    """Something behind its end."""
    rewrite(path, path.read_bytes() + b"\n")


def remove(path: Path) -> None:
    """Gone, a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def swap(one: Path, other: Path) -> None:
    """Each has the other's content."""
    first, second = one.read_bytes(), other.read_bytes()
    rewrite(one, second)
    rewrite(other, first)


def hide(path: Path) -> None:
    """Only the administrator may read it; pgBackRest is none."""
    rewrite(path, path.read_bytes())
    os.chown(path, 0, 0)
    path.chmod(0o600)
