"""The history of a drill's writers as its evidence holds it: every attempt, and every row that was found in the end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sre.errors import EvidenceDamaged
from sre.judges.history import Attempt, Key, Row
from sre.load import ledger_file
from sre.load.writers import LEDGER_NAME

ROWS_NAME = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class History:
    """What was attempted, and what was there afterwards; `rows` is None when nobody came to read them."""

    attempts: tuple[Attempt, ...]
    rows: tuple[Row, ...] | None


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Put the rows that were found on file, one a line, by their keys."""
    lines = [json.dumps([*row.key, row.payload]) for row in sorted(rows)]
    # Written whole or not at all: fewer rows would read as a loss.
    temporary = folder / f"{ROWS_NAME}.new"
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    temporary.replace(folder / ROWS_NAME)


def read_history(folder: Path) -> History | None:
    """The history of a drill's folder; None when nobody wrote.

    Raises:
        EvidenceDamaged: a file cannot be read.
    """
    if not (folder / LEDGER_NAME).exists():
        return None
    attempts = tuple(ledger_file.read(folder / LEDGER_NAME))
    if not (folder / ROWS_NAME).exists():
        return History(attempts, None)
    rows = []
    for number, line in enumerate((folder / ROWS_NAME).read_text(encoding="utf-8").splitlines(), 1):
        try:
            run, writer, seq, payload = json.loads(line)
        except (ValueError, TypeError) as error:
            raise EvidenceDamaged(f"{folder / ROWS_NAME} line {number} is no row ({error!r})") from error
        rows.append(Row(Key(run, writer, seq), payload))
    return History(attempts, tuple(rows))
