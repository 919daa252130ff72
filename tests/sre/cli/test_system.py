"""`sre up`, `down`, `status`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from sre.targets.local import processes, state
from sre.targets.local.layout import ARMS
from sre.targets.local.target import LocalTarget
from tests.sre.targets.kubernetes.programs import Programs

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


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """Settings that name a cluster whose context looks like production, and that nothing answers for."""
    file = tmp_path / "kubeconfig"
    parts = {"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}]}
    context = {"name": "eu-prod", "context": {"cluster": "c", "user": "u"}}
    file.write_text(yaml.safe_dump({"current-context": "eu-prod", "contexts": [context], **parts}), encoding="utf-8")
    return {"SRE_KUBECONFIG": str(file)}


@pytest.mark.parametrize("arguments", [("up",), ("down", "--purge"), ("up", "--yes-i-mean", "prod")])
def test_a_cluster_that_looks_like_production_wants_its_name_typed(
    sre: Run, production: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = sre(*arguments, "--target", "kubernetes", **production)
    assert (done.returncode, done.stdout) == (2, "")
    assert "context 'eu-prod' looks like production; add --yes-i-mean eu-prod" in done.stderr


def test_what_a_cluster_cannot_be_asked_is_a_wrong_request(sre: Run, production: dict[str, str]) -> None:
    done = sre("down", "--target", "kubernetes", "--yes-i-mean", "eu-prod", **production)
    assert (done.returncode, "add --purge to delete both" in done.stderr) == (2, True)
    done = sre("up", "--target", "kubernetes", "--replicas", "5", **production)
    assert (done.returncode, "the overlay says how many" in done.stderr) == (2, True)


def test_a_cluster_that_nothing_was_begun_on_has_no_status(sre: Run, document: Document, production: dict[str, str]) -> None:
    done = sre("status", "--target", "kubernetes", "--json", **production)
    assert done.returncode == 4
    assert "no system on a cluster was begun from" in document(done, "sre.error/1")["error"]


def test_a_cluster_that_does_not_answer_is_named(sre: Run, production: dict[str, str]) -> None:
    done = sre("up", "--target", "kubernetes", "--yes-i-mean", "eu-prod", "--images", "registry", **production)
    assert done.returncode == 4
    assert "kubectl" in done.stderr


class _HoldsNothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        return


def test_velero_goes_to_a_cluster_before_the_overlay_where_a_store_is_set(
    sre: Run, production: dict[str, str], tmp_path: Path
) -> None:
    programs = Programs(tmp_path / "programs")
    asked = ("up", "--target", "kubernetes", "--yes-i-mean", "eu-prod", "--images", "registry")
    around = {**production, "PATH": str(programs.folder), "SRE_VELERO_URL": "https://store:9000"}
    done = sre(*asked, **around)
    assert (done.returncode, "velero-credentials does not exist; see SRE_VELERO_CREDENTIALS" in done.stderr) == (2, True)
    (tmp_path / "keys").touch()
    with HTTPServer(("127.0.0.1", 0), _HoldsNothing) as server:
        kubeconfig = Path(production["SRE_KUBECONFIG"])
        kubeconfig.write_text(kubeconfig.read_text().replace("127.0.0.1:1", f"127.0.0.1:{server.server_port}"))

        def say_once_that_nobody_has_a_velero_there() -> None:
            server.handle_request()
            server.server_close()

        answering = Thread(target=say_once_that_nobody_has_a_velero_there)
        answering.start()
        done = sre(*asked, **around, SRE_VELERO_CREDENTIALS=str(tmp_path / "keys"))
        answering.join(10)
    assert (done.returncode, "cluster eu-prod did not answer" in done.stderr) == (4, True)
    assert "install" in programs.calls("velero")[0]
    assert [call.split()[1] for call in programs.calls("kubectl")] == ["apply", "apply", "kustomize", "apply"]
    sre(*asked, **production, PATH=str(programs.folder))
    assert len(programs.calls("velero")) == 1
