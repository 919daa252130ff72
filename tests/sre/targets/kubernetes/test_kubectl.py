"""kubectl, the real program."""

from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import CannotRun, MissingProgram
from sre.targets.kubernetes.kubectl import Kubectl

SETTINGS = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: data}\ndata: {a: b}\n"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "kustomization.yaml").write_text("resources: [settings.yaml]\n")
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    return tmp_path


def test_an_overlay_is_rendered_without_a_cluster(kubectl: Path, overlay: Path) -> None:
    program = Kubectl(kubectl.parent, "", "none")
    metadata = {"name": "settings", "namespace": "data"}
    assert program.render(overlay) == [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}]


def test_what_is_wrong_is_told_in_the_programs_own_words(kubectl: Path, overlay: Path) -> None:
    (overlay / "settings.yaml").unlink()
    with pytest.raises(CannotRun, match=r"kubectl kustomize .* failed: .*settings\.yaml"):
        Kubectl(kubectl.parent, "", "none").render(overlay)


def test_without_a_cluster_nothing_is_applied_or_deleted(kubectl: Path, kubeconfig: str) -> None:
    program = Kubectl(kubectl.parent, kubeconfig, "other")
    with pytest.raises(CannotRun, match=r"kubectl apply .* failed: .*other"):
        program.apply([])
    with pytest.raises(CannotRun, match=r"kubectl delete .* failed: .*other"):
        program.delete([])


def test_a_missing_program_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match=f"kubectl is neither on PATH nor in {tmp_path}; install it"):
        Kubectl(tmp_path, "", "none")
