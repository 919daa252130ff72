"""`sre drill`, `report` and `verify` over a run on the memory target."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from sre.cli import drills, evidence
from sre.drills import run as runner
from sre.drills import session
from sre.drills.run import Finished
from sre.errors import EvidenceDamaged, NothingSelected
from sre.targets.memory import Behaviour, MemoryTarget

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _on_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Drills run on the memory target in place of the local system."""
    monkeypatch.setenv("SRE_EVIDENCE", str(tmp_path / "evidence"))
    monkeypatch.setenv("SRE_HOME", str(tmp_path / "home"))

    def on_running(settings: Any, chosen: Any, *, name: str, options: Any, narrator: Any) -> Finished:
        target = MemoryTarget(Behaviour())
        return runner.run(chosen, target, target, root=settings.evidence, name=name, options=options, narrator=narrator)

    def gameday(settings: Any, *, options: Any, keep: bool, narrator: Any) -> Finished:
        from sre.drills.pod_recovery import PodRecovery  # noqa: PLC0415 - only here

        narrator.change("begun" if keep else "begun, will be ended")
        return on_running(settings, [PodRecovery()], name="gameday", options=options, narrator=narrator)

    monkeypatch.setattr(session, "on_running", on_running)
    monkeypatch.setattr(session, "gameday", gameday)


def code(command: Callable[[], None]) -> int:
    """How a command ended."""
    with pytest.raises(typer.Exit) as ended:
        command()
    return ended.value.exit_code


def test_a_drill_ends_with_its_verdict_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(lambda: drills.drill(["pod-recovery"])) == 0
    printed = capsys.readouterr()
    assert "KEPT" in printed.out
    assert "evidence" in printed.out
    assert "inject" in printed.err
    assert "KEPT" not in printed.err.split("judge")[0]


def test_as_json_a_run_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(lambda: drills.drill(["pod-recovery"], as_json=True)) == 0
    record = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in record["drills"]] == ["pod-recovery"]
    assert record["exit_code"] == 0


def test_a_game_day_says_what_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(drills.gameday) == 0
    assert "begun, will be ended" in capsys.readouterr().err
    assert code(lambda: drills.gameday(keep=True)) == 0
    assert "  begun\n" in capsys.readouterr().err


def test_a_report_says_the_same_again_and_the_list_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    first = capsys.readouterr().out
    assert code(evidence.report) == 0
    assert capsys.readouterr().out.endswith(first)
    assert code(lambda: evidence.report(as_json=True)) == 0
    run = json.loads(capsys.readouterr().out)["id"]
    assert code(lambda: evidence.report(run)) == 0
    capsys.readouterr()
    drills.drill(show_list=True, as_json=True)
    rows = json.loads(capsys.readouterr().out)["drills"]
    remembered = [row for row in rows if row["drill"] == "pod-recovery"]
    assert {row["run"] for row in remembered} == {run}
    assert all(row["last"].startswith("KEPT ") for row in remembered)


def test_an_unaltered_run_holds_and_an_altered_one_does_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    capsys.readouterr()
    evidence.verify()
    assert "every file is unaltered" in capsys.readouterr().out
    assert code(lambda: evidence.verify(as_json=True)) == 0
    capsys.readouterr()
    samples = next((tmp_path / "evidence").rglob("samples.bin"))
    content = bytearray(samples.read_bytes())
    content[len(content) // 2] ^= 1
    samples.write_bytes(content)
    with pytest.raises(EvidenceDamaged, match=r"does not hold: .*samples\.bin"):
        evidence.verify()
    assert code(lambda: evidence.verify(as_json=True)) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["holds"]) == ("sre.verify/1", False)


def test_a_run_that_left_nothing_has_nothing_to_undo(capsys: pytest.CaptureFixture[str]) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    capsys.readouterr()
    evidence.undo()
    assert capsys.readouterr().out == "nothing is left to undo\n"


def test_a_drill_without_a_name_selects_nothing() -> None:
    with pytest.raises(NothingSelected):
        drills.drill()
