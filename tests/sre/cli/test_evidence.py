"""`sre report`, `verify` and `undo`, over runs on the memory target."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sre.cli import drills, evidence
from sre.errors import CannotRun, EvidenceDamaged, UsageError
from sre.evidence import sign

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
    said = capsys.readouterr().out
    public = tmp_path / "home" / "signing-key.pem.pub"
    assert "every file is unaltered" in said
    assert f"signed with key {sign.key_id(sign.public_key(public))} (this machine's own, {public})" in said
    assert code(lambda: evidence.verify(as_json=True)) == 0
    assert json.loads(capsys.readouterr().out)["key"] == {"id": sign.key_id(sign.public_key(public)), "file": str(public)}
    samples = next((tmp_path / "evidence").rglob("samples.bin"))
    content = bytearray(samples.read_bytes())
    content[len(content) // 2] ^= 1
    samples.write_bytes(content)
    with pytest.raises(EvidenceDamaged, match=r"does not hold: .*samples\.bin"):
        evidence.verify()
    assert code(lambda: evidence.verify(as_json=True)) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["holds"]) == ("sre.verify/1", False)


def test_another_machine_checks_with_the_public_key_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: Code
) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    public = (tmp_path / "home" / "signing-key.pem.pub").rename(tmp_path / "theirs.pem")
    monkeypatch.setenv("SRE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(CannotRun, match=r"signing-key\.pem\.pub cannot be read .*--key"):
        evidence.verify()
    capsys.readouterr()
    evidence.verify(key=public)
    assert "(which you named)" in capsys.readouterr().out
    sign.private_key(tmp_path / "elsewhere" / "signing-key.pem")
    with pytest.raises(EvidenceDamaged, match=r"the signature is of key .*, not of the key it is checked with"):
        evidence.verify()


def test_evidence_without_a_signature_does_not_hold(capsys: pytest.CaptureFixture[str], tmp_path: Path, code: Code) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    next((tmp_path / "evidence").rglob("attestation.json")).unlink()
    with pytest.raises(EvidenceDamaged, match="does not hold: it is not signed"):
        evidence.verify()
    capsys.readouterr()
    assert code(lambda: evidence.verify(as_json=True)) == 4
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_a_run_that_left_nothing_has_nothing_to_undo(capsys: pytest.CaptureFixture[str], code: Code) -> None:
    code(lambda: drills.drill(["pod-recovery"]))
    capsys.readouterr()
    evidence.undo()
    assert capsys.readouterr().out == "nothing is left to undo\n"


def test_the_history_of_a_drill_counts_its_runs(capsys: pytest.CaptureFixture[str], code: Code, document: Document) -> None:
    with pytest.raises(CannotRun, match="no signed run of any drill lies below"):
        evidence.history()
    for _ in range(2):
        code(lambda: drills.drill(["pod-recovery"]))
    capsys.readouterr()
    evidence.history(["pod-recovery"])
    said = capsys.readouterr().out
    assert said.splitlines()[0].split()[:2] == ["drill", "promise"]
    assert "2 of 2" in said
    evidence.history(as_json=True)
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert {(row["promise"], row["runs"], row["kept"]) for row in trials} >= {("pod-recovery", 2, 2), ("availability", 2, 2)}
    with pytest.raises(UsageError, match="drill 'pods' does not exist"):
        evidence.history(["pods"])
