from __future__ import annotations

from pathlib import Path

import pytest

from sre.drills.history_files import ROWS_NAME, read_history, write_rows
from sre.errors import EvidenceDamaged
from sre.judges.history import Attempt, Key, Row
from sre.load.ledger_file import LedgerFile
from sre.load.writers import LEDGER_NAME

ROWS = (Row(Key("r", 0, 1), "aa"), Row(Key("r", 1, 0), "bb"))
ATTEMPT = Attempt(key=Key("r", 0, 1), payload="aa", sent=1.0, sent_wall=1_800_000_000.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ledger = LedgerFile(tmp_path / LEDGER_NAME)
    ledger.sent(ATTEMPT)
    ledger.close()
    return tmp_path


def test_a_history_is_read_as_it_was_written_whatever_the_order_of_the_rows(folder: Path) -> None:
    write_rows(folder, reversed(ROWS))
    found = read_history(folder)
    assert found is not None
    assert found.attempts == (ATTEMPT,)
    assert found.rows == ROWS


def test_no_rows_read_are_none_and_no_rows_found_are_an_empty_table(folder: Path) -> None:
    found = read_history(folder)
    assert found is not None
    assert found.rows is None
    write_rows(folder, [])
    found = read_history(folder)
    assert found is not None
    assert found.rows == ()


def test_without_a_ledger_nobody_wrote(tmp_path: Path) -> None:
    write_rows(tmp_path, ROWS)
    assert read_history(tmp_path) is None


@pytest.mark.parametrize("line", ["no json", "[1, 2]", "7"])
def test_a_line_that_is_no_row_is_named(folder: Path, line: str) -> None:
    write_rows(folder, ROWS)
    with (folder / ROWS_NAME).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(EvidenceDamaged, match=r"rows.jsonl line 3 is no row"):
        read_history(folder)
