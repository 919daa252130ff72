from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import CannotRun, MissingProgram, StepFailed
from sre.targets.kubernetes.velero_program import VeleroProgram
from tests.sre.targets.kubernetes.programs import Programs

CLIENT = "Client:\n\tVersion: v1.18.3\n\tGit commit: -\n"


@pytest.fixture
def velero(programs: Programs) -> VeleroProgram:
    return VeleroProgram(programs.folder, "config", "testbed")


def test_it_is_told_which_cluster(velero: VeleroProgram, programs: Programs) -> None:
    programs.answer("get", "[]")
    assert velero.run("get", "--all") == "[]"
    assert programs.calls("velero") == ["--kubecontext=testbed --namespace=velero get --all"]


def test_a_refusal_is_told_in_its_own_words(velero: VeleroProgram, programs: Programs) -> None:
    programs.answer("backup create", "An error occurred: already exists", code=1)
    with pytest.raises(StepFailed, match="velero backup create b failed: An error occurred: already exists"):
        velero.run("backup", "create", "b", "--ttl=1h")


def test_it_has_a_deadline(velero: VeleroProgram, programs: Programs) -> None:
    (programs.folder / "velero").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(StepFailed, match=r"velero version did not end within 0 s; see `kubectl logs -n velero deploy/velero`"):
        velero.run("version", within_s=0.2)
    (programs.folder / "velero").write_text("#!/nowhere\n")
    with pytest.raises(CannotRun, match="velero version cannot be run"):
        velero.run("version")


@pytest.mark.parametrize(
    ("out", "version"),
    [
        (f"{CLIENT}Server:\n\tVersion: v1.18.2\n", "v1.18.2"),
        (f"{CLIENT}<error getting server version: timed out>\n", ""),
        (CLIENT, ""),
    ],
)
def test_the_server_answers_or_does_not(velero: VeleroProgram, programs: Programs, out: str, version: str) -> None:
    programs.answer("version", out)
    assert velero.server() == version


def test_a_server_that_cannot_be_asked_does_not_answer(velero: VeleroProgram, programs: Programs) -> None:
    programs.answer("version", "no cluster", code=1)
    assert velero.server() == ""


def test_a_missing_program_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match=f"velero is neither on PATH nor in {tmp_path}; install it"):
        VeleroProgram(tmp_path, "", "none")
