"""The study's journal: the settings in the first line, then a line per finished cell. A study goes on where it stopped.

A line cut short by a crash is no result: its cell is run again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sre.errors import EvidenceDamaged, UsageError
from tests.studies.canary.figures import Figure

SCHEMA = "canary-study/1"


@dataclass(frozen=True, slots=True)
class Result:
    """What one cell came to: its figures by name, and how long it took, s."""

    cell: str
    seconds: float
    figures: Mapping[str, Figure]


class StudyJournal:
    """Results on disk.

    Args:
        path: of the file; made when missing.
        settings: all that decides what a result means: scale, versions, digest of the code that is judged.

    Raises:
        UsageError: the file holds a study of other settings.
        EvidenceDamaged: the file is no journal of a study.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        first = {"schema": SCHEMA, "settings": dict(settings)}
        lines = _whole_lines(path)
        if not lines:
            path.write_text(json.dumps(first) + "\n", encoding="utf-8")
            return
        begun = _read(path, 1, lines[0])
        if begun.get("schema") != SCHEMA or not isinstance(begun.get("settings"), dict):
            raise EvidenceDamaged(f"{path} is no journal of schema {SCHEMA}; give the study another file")
        other = sorted(
            key for key in begun["settings"].keys() | settings.keys() if begun["settings"].get(key) != settings.get(key)
        )
        if other:
            raise UsageError(f"{path} holds a study with another {', '.join(other)}; give this one a file of its own")

    def results(self) -> dict[str, Result]:
        """By cell. Raises EvidenceDamaged for a whole line that is no result."""
        found: dict[str, Result] = {}
        for number, line in enumerate(_whole_lines(self._path)[1:], 2):
            read = _read(self._path, number, line)
            try:
                figures = {name: Figure(**figure) for name, figure in read["figures"].items()}
                found[read["cell"]] = Result(read["cell"], read["seconds"], figures)
            except (KeyError, TypeError, AttributeError) as error:
                raise EvidenceDamaged(f"{self._path} line {number} is no result of a cell ({error}); delete that line") from error
        return found

    def add(self, result: Result) -> None:
        """Put a result on disk."""
        whole = b"".join(line + b"\n" for line in _whole_lines(self._path))
        with self._path.open("r+b") as file:
            file.truncate(len(whole))  # a line cut short would swallow this one
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(asdict(result)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise EvidenceDamaged(f"{path} line {number} is no JSON object; delete that line")
    return read


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
