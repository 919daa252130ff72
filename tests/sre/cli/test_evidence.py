"""`sre report`, `verify` and `undo`, over runs on the memory target."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sre.cli import drills, evidence
from sre.errors import EvidenceDamaged

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
Code = Callable[[Callable[[], None]], int]

pytestmark = pytest.mark.usefixtures("on_memory")


def test_a_report_says_the_same_again_and_the_list_remembers(capsys: pytest.CaptureFixture[str], code: Code) -> None:
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


def test_an_unaltered_run_holds_and_an_altered_one_does_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, code: Code
) -> None:
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


def test_a_run_that_left_nothing_has_nothing_to_undo(capsys: pytest.CaptureFixture[str], code: Code) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    capsys.readouterr()
    evidence.undo()
    assert capsys.readouterr().out == "nothing is left to undo\n"
