"""The writers' ledger: every attempt on file before it is sent, its fate right after; JSON lines.

    {"run": "r1", "writer": 0, "seq": 7, "payload": "5bf1...", "sent": 812.31, "sent_wall": 1800000000.1}
    {"run": "r1", "writer": 0, "seq": 7, "done": 812.32, "done_wall": 1800000000.1, "fate": "acked", "server": 5433, "error": ""}

Each line is one write to the file, so a writer killed at any moment leaves at most one line cut short, and no row without its
attempt. Nothing is flushed to the disk: the ledger outlives the writer and the database, not the machine.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from sre.errors import EvidenceDamaged
from sre.judges.history import Attempt, Fate, Key

_INTENT = ("payload", "sent", "sent_wall")
_RESULT = ("done", "done_wall", "fate", "server", "error")


class LedgerFile:
    """A growing ledger. Several threads may write to it.

    Args:
        path: of the file, which must not exist: numbers of attempts are used once.

    Raises:
        FileExistsError: it does.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def sent(self, attempt: Attempt) -> None:
        """Put an attempt on file; it may be sent once this returns."""
        self._write(attempt, _INTENT)

    def answered(self, attempt: Attempt) -> None:
        """Put its fate on file."""
        self._write(attempt, _RESULT)

    def close(self) -> None:
        """No more lines come."""
        os.close(self._file)

    def _write(self, attempt: Attempt, names: tuple[str, ...]) -> None:
        line = json.dumps(attempt.key._asdict() | {name: getattr(attempt, name) for name in names}).encode() + b"\n"
        if (written := os.write(self._file, line)) != len(line):
            raise OSError(f"the ledger took {written} of {len(line)} bytes: its disk is full")


def read(path: Path) -> list[Attempt]:
    """All attempts, in the order of sending; one without its fate, as a killed writer leaves it, is of unknown fate.

    Raises:
        EvidenceDamaged: the file is missing, or a whole line is no line of a ledger. A last line cut short is left out.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError as missing:
        raise EvidenceDamaged(f"{path} is missing: what was written is unknown") from missing
    attempts: dict[Key, Attempt] = {}
    for number, line in enumerate(lines, 1):
        try:
            _take(attempts, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise EvidenceDamaged(f"{path} line {number} is no line of a ledger ({error!r})") from error
    return list(attempts.values())


def _take(attempts: dict[Key, Attempt], line: dict[str, Any]) -> None:
    key = Key(line.pop("run"), line.pop("writer"), line.pop("seq"))
    if line.keys() == set(_INTENT) and key not in attempts:
        attempts[key] = Attempt(key=key, **line)
    elif line.keys() == set(_RESULT) and attempts[key].done is None:
        attempts[key] = replace(attempts[key], **line | {"fate": Fate(line["fate"])})
    else:
        raise ValueError(f"attempt {key} is noted twice, or in another form")
