"""`sre drill` and `sre gameday`, over the memory target."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sre.cli import drills
from sre.clock import SystemClock
from sre.drills.catalog import DRILLS
from sre.errors import NothingSelected

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
Code = Callable[[Callable[[], None]], int]

pytestmark = pytest.mark.usefixtures("on_memory")


def test_the_list_of_drills_names_promises_and_last_verdicts(sre: Run, document: Document) -> None:
    done = sre("drill", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    rows = document(sre("drill", "--list", "--json"), "sre.drills/1")["drills"]
    assert {row["drill"] for row in rows} == set(DRILLS)
    assert {row["last"] for row in rows} == {"never"}
    assert {
        "drill": "pod-recovery",
        "promise": "pod-recovery",
        "bound": "< 30 s",
        "last": "never",
        "run": "",
        "at": None,
        "age_s": None,
        "kept_at": None,
        "fresh_for_s": 604_800.0,
        "freshness": "never",
        "proven": False,
    } in rows
    assert all(row["promise"] in done.stdout for row in rows)
    assert done.stdout.count("red: never proven") == len(rows)


def _listed(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """The row of pod-recovery, as JSON and as text."""
    drills.drill(show_list=True, as_json=True)
    (row,) = (row for row in json.loads(capsys.readouterr().out)["drills"] if row["promise"] == row["drill"] == "pod-recovery")
    drills.drill(show_list=True)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["pod-recovery"] * 2)
    return row, line


def test_the_list_says_how_old_the_evidence_is_and_when_it_no_longer_counts(
    capsys: pytest.CaptureFixture[str], code: Code, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code(lambda: drills.drill(["pod-recovery"]))
    capsys.readouterr()
    began = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()

    def look(days: float) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(SystemClock, "wall", lambda _: began + days * 86_400)
        return _listed(capsys)

    row, line = look(2.0)
    assert (row["freshness"], row["proven"], row["last"].split()[0]) == ("fresh", True, "KEPT")
    assert row["at"] == row["kept_at"]
    assert row["age_s"] == pytest.approx(2 * 86_400, abs=120)
    assert line.split()[-4:] == ["2", "d", "proven", row["run"]]
    row, line = look(8.0)
    assert (row["freshness"], row["proven"]) == ("stale", False)
    assert "red: stale, counts for 7 d" in line
    row, line = look(-1.0)
    assert (row["freshness"], row["proven"]) == ("stale", False)
    assert "in the future" in line
    (tmp_path / "evidence" / row["run"] / "attestation.json").unlink()
    row, line = look(1.0)
    assert (row["last"], row["freshness"], row["proven"], row["run"]) == ("never", "never", False, "")
    assert "red: never proven" in line


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
    assert "one of each kind, begun, will be ended" in capsys.readouterr().err
    assert code(lambda: drills.gameday(every=True, keep=True)) == 0
    assert "every drill, begun\n" in capsys.readouterr().err


def test_a_drill_without_a_name_selects_nothing() -> None:
    with pytest.raises(NothingSelected):
        drills.drill()
