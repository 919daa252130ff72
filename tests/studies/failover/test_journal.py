from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.errors import EvidenceDamaged, UsageError
from tests.studies.failover.journal import Result, StudyJournal

MakeResult = Callable[..., Result]
SETTINGS = {"mode": "strict", "ttl_s": 20, "writers": 4}


@pytest.fixture
def path(tmp_path: Path, make_result: MakeResult) -> Path:
    path = tmp_path / "study.jsonl"
    journal = StudyJournal(path, SETTINGS)
    for seed in range(3):
        journal.add(make_result(seed, first_write=None if seed == 1 else 8.0))
    return path


def test_what_was_added_is_there_for_the_next(path: Path, make_result: MakeResult) -> None:
    journal = StudyJournal(path, dict(reversed(SETTINGS.items())))
    assert list(journal.results()) == [0, 1, 2]
    assert journal.results()[1] == make_result(1, first_write=None)


def test_cut_short_anywhere_it_keeps_whole_results_and_takes_more(path: Path, make_result: MakeResult) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        journal = StudyJournal(path, SETTINGS)
        kept = max(0, whole[:length].count(b"\n") - 1)
        assert len(journal.results()) == kept
        journal.add(make_result(9))
        assert list(StudyJournal(path, SETTINGS).results()) == [*range(kept), 9]


@pytest.mark.parametrize("other", [{"ttl_s": 30}, {"colour": "red"}])
def test_a_study_of_other_settings_is_not_continued(path: Path, other: dict[str, object]) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match=f"another {next(iter(other))}"):
        StudyJournal(path, SETTINGS | other)
    assert path.read_bytes() == before


def test_a_digest_that_does_not_fit_is_refused(path: Path) -> None:
    first, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(json.loads(first) | {"digest": "0" * 64}).encode() + b"\n" + rest)
    with pytest.raises(UsageError, match="another digest"):
        StudyJournal(path, SETTINGS)


@pytest.mark.parametrize("first", [b"", b"{", b"[]", b'{"schema": "other/1", "settings": {}}', b'{"schema": "failover-study/1"}'])
def test_a_file_that_is_no_journal_is_left_alone(path: Path, first: bytes) -> None:
    path.write_bytes(first + b"\n")
    with pytest.raises(EvidenceDamaged, match="no journal of schema"):
        StudyJournal(path, SETTINGS)
    assert path.read_bytes() == first + b"\n"


def test_damaged_results_are_not_skipped(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for bad, said in (
        (b"{}\n", "line 5 is no result"),
        (b"half\n", "line 5 is no result"),
        (lines[1], "schedule 0 a second time"),
    ):
        path.write_bytes(b"".join([*lines, bad]))
        with pytest.raises(EvidenceDamaged, match=said):
            StudyJournal(path, SETTINGS).results()
