from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.journal import Journal

SCHEMA = "sre.study-slo/1"


def test_what_is_written_is_not_worked_out_again(tmp_path: Path) -> None:
    file = tmp_path / "study.jsonl"
    done: list[int] = []

    def work(seed: int) -> dict[str, int]:
        done.append(seed)
        return {"square": seed * seed}

    first = Journal(file, SCHEMA).results("quiet", range(3), work)
    with file.open("a") as cut:
        cut.write('{"schema": "sre.stu')
    again = Journal(file, SCHEMA).results("quiet", range(3), work)
    assert first == again == [{"square": 0}, {"square": 1}, {"square": 4}]
    assert done == [0, 1, 2]
    Journal(file, SCHEMA).results("busy", [2], work)
    assert done == [0, 1, 2, 2]


def test_another_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.jsonl"
    file.write_text('{"schema": "sre.study/9"}\n')
    with pytest.raises(ValueError, match=r"is not of schema sre\.study-slo/1"):
        Journal(file, SCHEMA)
