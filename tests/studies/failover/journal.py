"""The study's journal: the settings in the first line, then a JSON line per finished schedule. A study goes on where it stopped.

A line cut short by a crash is no result: its schedule is run again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sre.errors import EvidenceDamaged, UsageError

SCHEMA = "failover-study/1"
LEAST_ACKED = 2000  # of a schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one schedule came to.

    Attributes:
        seed: of the schedule.
        kinds: of its faults, in order of time.
        acked, attempts: counts.
        lost, invented, doubled, altered: rows, see `sre.judges.history.HistoryCheck`.
        unknown_found, unknown_absent: attempts of unknown fate.
        first_write, full_service: s from the first fault; None when not seen.
        primary_killed: the first fault was a SIGKILL of the primary.
        why: it says nothing about loss, in words: a fault that did not bite, rows that could not be read; else empty.
    """

    seed: int
    kinds: tuple[str, ...]
    acked: int
    attempts: int
    lost: int
    invented: int
    doubled: int
    altered: int
    unknown_found: int
    unknown_absent: int
    first_write: float | None
    full_service: float | None
    primary_killed: bool
    why: str = ""

    @property
    def differences(self) -> int:
        """Rows that are not as they must be."""
        return self.lost + self.invented + self.doubled + self.altered


class StudyJournal:
    """Results on disk.

    Args:
        path: of the file; made when missing.
        settings: all that decides what a result means: mode, timings of the cluster, writers, versions, commit.

    Raises:
        UsageError: the file holds a study of other settings.
        EvidenceDamaged: the file is no journal of a study.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        first = _first_line(settings)
        lines = _whole_lines(path)
        if not lines:
            path.write_bytes(first + b"\n")
        elif (begun := _header(path, lines[0])) != json.loads(first):
            other = sorted(
                key for key in begun["settings"].keys() | settings.keys() if begun["settings"].get(key) != settings.get(key)
            )
            raise UsageError(f"{path} holds a study with another {', '.join(other) or 'digest'}; give this one a file of its own")

    def results(self) -> dict[int, Result]:
        """By seed. Raises EvidenceDamaged for a whole line that is no result, and for a seed that stands there twice."""
        found: dict[int, Result] = {}
        for number, line in enumerate(_whole_lines(self._path)[1:], 2):
            try:
                result = Result(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise EvidenceDamaged(f"{self._path} line {number} is no result of a schedule ({error})") from error
            if result.seed in found:
                raise EvidenceDamaged(f"{self._path} line {number} holds schedule {result.seed} a second time")
            found[result.seed] = replace(result, kinds=tuple(result.kinds))
        return found

    def add(self, result: Result) -> None:
        """Put a result on disk."""
        whole = b"".join(line + b"\n" for line in _whole_lines(self._path))
        with self._path.open("r+b") as file:
            file.truncate(len(whole))  # a line cut short would swallow this one
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(asdict(result), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _first_line(settings: Mapping[str, Any]) -> bytes:
    plain = json.dumps(settings, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps({"schema": SCHEMA, "digest": digest, "settings": json.loads(plain)}).encode()


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA or not isinstance(header.get("settings"), dict):
        raise EvidenceDamaged(f"{path} is no journal of schema {SCHEMA}")
    return header


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
