"""`sre up`, `down`, `status`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sre.targets.local import processes, state
from sre.targets.local.layout import ARMS
from sre.targets.local.target import LocalTarget

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
Code = Callable[[Callable[[], None]], int]


def test_undo_and_down_with_nothing_to_do_are_content(sre: Run, document: Document) -> None:
    done = sre("undo")
    assert (done.returncode, done.stdout) == (0, "nothing is left to undo\n")
    assert document(sre("undo", "--json"), "sre.undo/1")["undone"] == {}
    done = sre("down", "--purge")
    assert (done.returncode, done.stdout) == (0, "")
    assert "runs any more; its data are deleted" in done.stderr
    assert document(sre("down", "--json"), "sre.down/1")["ended_by_force"] == []


@pytest.mark.local
def test_status_of_the_real_system(on_system: Run, system: LocalTarget, document: Document) -> None:
    done = on_system("status")
    assert done.returncode == 0
    assert "serving-2" in done.stdout
    found = document(on_system("status", "--json"), "sre.status/1")
    assert found["state"] == "ready"
    # Canary and control run only during a rollout.
    assert {row["state"] for name, row in found["services"].items() if name not in ARMS} == {"ready", "done"}
    assert {"serving-1", "postgres-1", "etcd-1", "ingress", "mlflow", "prometheus"} <= set(found["services"])


@pytest.mark.local
def test_a_second_up_joins_the_real_system(on_system: Run, system: LocalTarget, document: Document) -> None:
    before = state.read(system.layout.home)
    done = on_system("up", "--json", "--replicas", "7")
    found = document(done, "sre.up/1")
    assert (done.returncode, found["begun"], found["ingress"]) == (0, False, system.endpoints.ingress)
    after = state.read(system.layout.home)
    assert before is not None
    assert after is not None
    assert (after.supervisor, after.replicas) == (before.supervisor, before.replicas)
    key = system.endpoints.api_key_file.read_text().strip()
    assert key not in done.stdout + done.stderr + on_system("up").stdout


@pytest.mark.local
def test_ctrl_c_ends_what_up_has_begun(programs: Path, open_folder: Path) -> None:
    home = open_folder / "home"
    environment = {**os.environ, "SRE_HOME": str(home), "SRE_TOOLS": str(programs)}
    command = [sys.executable, "-c", "from sre.cli.main import main; main()", "up"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as one:
        assert one.stderr is not None
        for line in one.stderr:
            if "postgres-1: ready" in line:
                one.send_signal(2)
                break
        rest = one.stderr.read()
        assert one.wait(60) == 130, rest
    assert not processes.of_system(home)
    assert state.read(home) is None
