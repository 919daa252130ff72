from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sre.errors import EvidenceDamaged
from sre.judges.history import Attempt, Fate, Key
from sre.load.ledger_file import LedgerFile, read


def attempt(seq: int, writer: int = 0) -> Attempt:
    return Attempt(key=Key("r", writer, seq), payload="00ff", sent=10.0 + seq, sent_wall=1.8e9 + seq)


def answered(seq: int, fate: Fate = Fate.ACKED) -> Attempt:
    error = "" if fate is Fate.ACKED else "connection lost\nwhile committing"
    return replace(attempt(seq), done=10.5 + seq, done_wall=1.8e9 + seq + 0.5, fate=fate, server=5433, error=error)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of three attempts, the last without its fate."""
    path = tmp_path / "attempts.jsonl"
    ledger = LedgerFile(path)
    for one in (answered(0), answered(1, Fate.FAILED)):
        ledger.sent(one)
        ledger.answered(one)
    ledger.sent(attempt(2))
    ledger.close()
    return path


def test_what_is_noted_is_read(path: Path) -> None:
    assert read(path) == [answered(0), answered(1, Fate.FAILED), attempt(2)]
    assert read(path)[2].fate is Fate.UNKNOWN


def test_cut_short_anywhere_it_is_read_to_its_last_whole_line(path: Path) -> None:
    whole, complete = path.read_bytes(), read(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        assert len(read(path)) == (lines + 1) // 2
        assert sum(one.done is not None for one in read(path)) == lines // 2
        assert [one.key for one in read(path)] == [one.key for one in complete][: len(read(path))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 6 is no line"),
        (b"[]", "line 6 is no line"),
        (b'{"run": "r", "writer": 0, "seq": 9}', "another form"),
        (b'{"run": "r", "writer": 0, "seq": 2, "payload": "00ff", "sent": 1.0, "sent_wall": 1.0}', "noted twice"),
        (
            b'{"run": "r", "writer": 0, "seq": 1, "done": 1.0, "done_wall": 1.0, "fate": "acked", "server": 1, "error": ""}',
            "noted twice",
        ),
        (b'{"run": "r", "writer": 0, "seq": 9, "done": 1.0, "done_wall": 1.0, "fate": "acked", "server": 1, "error": ""}', "Key"),
        (
            b'{"run": "r", "writer": 0, "seq": 2, "done": 1.0, "done_wall": 1.0, "fate": "lucky", "server": 1, "error": ""}',
            "lucky",
        ),
    ],
)
def test_a_line_that_no_ledger_has_is_damage(path: Path, line: bytes, said: str) -> None:
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(EvidenceDamaged, match=said):
        read(path)


def test_a_missing_ledger_is_damage(tmp_path: Path) -> None:
    with pytest.raises(EvidenceDamaged, match="is missing"):
        read(tmp_path / "attempts.jsonl")


def test_a_ledger_is_never_continued(path: Path) -> None:
    with pytest.raises(FileExistsError):
        LedgerFile(path)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_half_a_line_is_no_ledger(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "attempts.jsonl")
    with files_up_to(50), pytest.raises(OSError, match="took 50 of"):
        ledger.sent(attempt(0))
    ledger.close()
    assert read(tmp_path / "attempts.jsonl") == []
