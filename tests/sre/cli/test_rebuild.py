"""`sre rebuild`, as far as no cluster is needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.targets.kubernetes.place import Place

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_cluster_that_nobody_names_cannot_be_made_again(sre: Run) -> None:
    done = sre("rebuild")
    assert done.returncode == 2
    assert "knows no cluster; set SRE_CONTEXT" in done.stderr


def test_one_that_looks_like_production_wants_its_name_typed(sre: Run) -> None:
    done = sre("rebuild", SRE_CONTEXT="eu-prod-1")
    assert done.returncode == 2
    assert "'eu-prod-1' looks like production; add --yes-i-mean eu-prod-1" in done.stderr


@pytest.mark.parametrize("known", [True, False])
def test_without_a_command_that_makes_one_nothing_is_made(sre: Run, tmp_path: Path, known: bool) -> None:  # noqa: FBT001 - a case
    gone, home = str(tmp_path / "gone"), tmp_path / "home"
    if known:
        Place(home, gone, "testbed", "dev").write()
    done = sre("rebuild", "--json", SRE_KUBECONFIG=gone, SRE_CONTEXT="testbed")
    assert done.returncode == 4
    assert "no command is known for it; set SRE_CLUSTER_CREATE" in done.stdout + done.stderr
    # What was begun can be taken up again.
    assert json.loads((home / "kubernetes" / "place.json").read_text())["context"] == "testbed"
