"""`sre drill` and `sre gameday`, over the memory target."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from sre.cli import drills
from sre.errors import NothingSelected

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
Code = Callable[[Callable[[], None]], int]

pytestmark = pytest.mark.usefixtures("on_memory")


def test_the_list_of_drills_names_promises_and_last_verdicts(sre: Run, document: Document) -> None:
    done = sre("drill", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    rows = document(sre("drill", "--list", "--json"), "sre.drills/1")["drills"]
    assert {row["drill"] for row in rows} == {"training", "peak-load", "pod-recovery", "alerting", "backup-restore"}
    assert {row["last"] for row in rows} == {"never"}
    assert {"drill": "pod-recovery", "promise": "pod-recovery", "bound": "< 30 s", "last": "never", "run": ""} in rows
    assert all(row["promise"] in done.stdout for row in rows)


def test_a_drill_ends_with_its_verdict_and_code(capsys: pytest.CaptureFixture[str], code: Code) -> None:
    assert code(lambda: drills.drill(["pod-recovery"])) == 0
    printed = capsys.readouterr()
    assert "KEPT" in printed.out
    assert "evidence" in printed.out
    assert "inject" in printed.err
    assert "KEPT" not in printed.err.split("judge")[0]


def test_as_json_a_run_is_one_document(capsys: pytest.CaptureFixture[str], code: Code) -> None:
    assert code(lambda: drills.drill(["pod-recovery"], as_json=True)) == 0
    record = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in record["drills"]] == ["pod-recovery"]
    assert record["exit_code"] == 0


def test_a_game_day_says_what_it_begins(capsys: pytest.CaptureFixture[str], code: Code) -> None:
    assert code(drills.gameday) == 0
    assert "begun, will be ended" in capsys.readouterr().err
    assert code(lambda: drills.gameday(keep=True)) == 0
    assert "  begun\n" in capsys.readouterr().err


def test_a_drill_without_a_name_selects_nothing() -> None:
    with pytest.raises(NothingSelected):
        drills.drill()
