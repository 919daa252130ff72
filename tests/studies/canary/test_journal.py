from __future__ import annotations

import math
from pathlib import Path

import pytest

from sre.errors import EvidenceDamaged, UsageError
from tests.studies.canary.figures import Figure
from tests.studies.canary.journal import Result, StudyJournal

SETTINGS = {"scale": "short", "code": "abc"}


def make(cell: str) -> Result:
    return Result(cell, 1.5, {"found": Figure(math.inf, 0.5, math.inf, 10)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "study.jsonl"
    journal = StudyJournal(path, SETTINGS)
    for cell in "abc":
        journal.add(make(cell))
    return path


def test_what_was_added_is_there_for_the_next(path: Path) -> None:
    found = StudyJournal(path, dict(reversed(SETTINGS.items()))).results()
    assert list(found) == ["a", "b", "c"]
    assert found["b"] == make("b")


def test_cut_short_anywhere_it_keeps_whole_results_and_takes_more(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        journal = StudyJournal(path, SETTINGS)
        kept = max(0, whole[:length].count(b"\n") - 1)
        assert len(journal.results()) == kept
        journal.add(make("z"))
        assert list(StudyJournal(path, SETTINGS).results()) == [*"abc"[:kept], "z"]


def test_another_study_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="another code; give"):
        StudyJournal(path, SETTINGS | {"code": "def"})


@pytest.mark.parametrize("first", ["[]", "no json", '{"schema": "other/1", "settings": {}}', '{"schema": "canary-study/1"}'])
def test_what_is_no_journal_is_refused(tmp_path: Path, first: str) -> None:
    file = tmp_path / "file"
    file.write_text(first + "\n")
    with pytest.raises(EvidenceDamaged):
        StudyJournal(file, SETTINGS)


@pytest.mark.parametrize("line", ["{}", '{"cell": "d", "seconds": 1, "figures": {"x": {"value": 1}}}', '{"cell": 1', "3"])
def test_a_damaged_line_is_named(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(EvidenceDamaged, match="line 5"):
        StudyJournal(path, SETTINGS).results()
