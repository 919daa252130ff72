from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sre.clock import Clock
from sre.errors import EvidenceDamaged
from sre.evidence.journal import FIRST, Journal, problems, read, torn


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Journal:
    journal = Journal(tmp_path / "journal.jsonl", clock)
    journal.write("started", drill="pod-recovery")
    clock.sleep(1.5)
    journal.write("step", name="steady", worst=float("inf"))
    journal.write("ended")
    return journal


def _lines(journal: Journal) -> list[bytes]:
    return journal.path.read_bytes().splitlines(keepends=True)


def test_events_carry_order_time_and_chain(journal: Journal) -> None:
    first, second, third = read(journal.path)
    assert first == {
        "seq": 0,
        "t": 5000.0,
        "at": "2026-01-01T12:00:00.000Z",
        "event": "started",
        "drill": "pod-recovery",
        "prev": FIRST,
    }
    assert (second["seq"], second["t"], second["at"]) == (1, 5001.5, "2026-01-01T12:00:01.500Z")
    assert second["worst"] == "Infinity"
    assert len({first["prev"], second["prev"], third["prev"]}) == 3
    assert problems(journal.path) == []
    assert torn(journal.path) is None


def test_a_second_process_continues_the_chain(journal: Journal) -> None:
    code = (
        "from pathlib import Path; import sys; from sre.clock import SystemClock; from sre.evidence.journal import Journal;"
        "Journal(Path(sys.argv[1]), SystemClock()).write('undone', text='\\udcff')"
    )
    subprocess.run([sys.executable, "-c", code, str(journal.path)], check=True, timeout=60)
    assert [entry["event"] for entry in read(journal.path)] == ["started", "step", "ended", "undone"]


@pytest.mark.parametrize("name", ["seq", "t", "at", "prev"])
def test_the_journals_own_fields_cannot_be_overwritten(journal: Journal, name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is the journal's own"):
        journal.write("forged", **{name: 0})
    assert len(read(journal.path)) == 3


def test_an_event_that_json_cannot_hold_leaves_no_trace(journal: Journal) -> None:
    with pytest.raises(TypeError):
        journal.write("odd", path=Path("x"))
    assert len(read(journal.path)) == 3


@pytest.mark.parametrize("size", [10, 65_530, 65_536, 200_000])
def test_lines_of_any_length_follow_each_other(journal: Journal, size: int) -> None:
    for _ in range(3):
        journal.write("look", raw="x" * size)
    with journal.path.open("ab") as file:
        file.write(b"y" * size)
    journal.write("last")
    entries = read(journal.path)
    assert [entry["seq"] for entry in entries[-5:]] == list(range(len(entries) - 5, len(entries)))
    assert (entries[-2]["event"], entries[-2]["text"], entries[-1]["event"]) == ("torn", "y" * size, "last")


def test_a_torn_last_line_is_reported_and_the_rest_is_read(journal: Journal) -> None:
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-20])
    assert [entry["event"] for entry in read(journal.path)] == ["started", "step"]
    tail = torn(journal.path)
    assert tail is not None
    assert tail.startswith('{"seq": 2')
    assert "was cut short" in problems(journal.path)[0]


def test_writing_on_keeps_the_torn_text_in_the_chain(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes()[:-20])
    tail = torn(journal.path)
    journal.write("undone")
    events = read(journal.path)
    assert [(entry["seq"], entry["event"]) for entry in events] == [(0, "started"), (1, "step"), (2, "torn"), (3, "undone")]
    assert events[2]["text"] == tail
    assert problems(journal.path) == []


def test_a_line_torn_before_the_first_event(tmp_path: Path, clock: Clock) -> None:
    journal = Journal(tmp_path / "journal.jsonl", clock)
    journal.path.write_bytes(b'{"seq"')
    assert read(journal.path) == []
    journal.write("undone")
    assert [entry["event"] for entry in read(journal.path)] == ["torn", "undone"]


def test_sabotage_altered_byte(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes().replace(b"pod-recovery", b"pod-recoverx"))
    with pytest.raises(EvidenceDamaged, match="line 2 does not follow"):
        read(journal.path)
    assert "line 2 does not follow" in problems(journal.path)[0]


def test_sabotage_removed_line(journal: Journal) -> None:
    first, _, third = _lines(journal)
    journal.path.write_bytes(first + third)
    with pytest.raises(EvidenceDamaged, match="line 2 holds event 2, expected 1"):
        read(journal.path)


def test_sabotage_swapped_lines(journal: Journal) -> None:
    first, second, third = _lines(journal)
    journal.path.write_bytes(first + third + second)
    with pytest.raises(EvidenceDamaged, match="line 2"):
        read(journal.path)


def test_sabotage_added_line(journal: Journal) -> None:
    forged = json.dumps({"seq": 3, "t": 0, "at": "", "event": "forged", "prev": FIRST}).encode() + b"\n"
    journal.path.write_bytes(b"".join(_lines(journal)) + forged)
    with pytest.raises(EvidenceDamaged, match="line 4 does not follow"):
        read(journal.path)


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b"{}", b'{"seq": "1", "t": 1, "at": "", "event": "", "prev": ""}'])
def test_sabotage_not_an_event(journal: Journal, line: bytes) -> None:
    journal.path.write_bytes(journal.path.read_bytes() + line + b"\n")
    with pytest.raises(EvidenceDamaged, match="line 4 is not"):
        read(journal.path)
    with pytest.raises(EvidenceDamaged, match="line 4 is not"):
        journal.write("after")


def test_sabotage_removed_file(journal: Journal) -> None:
    journal.path.unlink()
    with pytest.raises(EvidenceDamaged, match="missing"):
        read(journal.path)
    assert "missing" in problems(journal.path)[0]
