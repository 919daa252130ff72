from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sre.dr import isolation
from sre.dr.isolation import Traces
from sre.targets.local.layout import Layout

if TYPE_CHECKING:
    from sre.targets.local.target import LocalTarget

PORTS = {"mlflow": 20_001, "postgres-1": 20_002}


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home", tmp_path / "tools", PORTS, ("serving-1",), None, "all")


@pytest.fixture
def traces(source: Layout) -> Traces:
    home = source.home / "restored" / "one"
    return Traces(source, Layout(home, source.tools, {"mlflow": 30_001}, ("serving-1",), None, "serving"))


def test_what_belongs_to_the_place_is_no_trace(traces: Traces, source: Layout) -> None:
    own = source.home / "restored" / "one"
    for text in (
        f"{own}/data/objects",
        f"{source.tools}/bin/postgres",
        "http://127.0.0.1:30001",
        "port 20001",
        f"{source.home}-2",
    ):
        assert list(traces.within(text)) == []


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        ("http://127.0.0.1:20001/api", "mlflow"),
        ("postgresql://a@localhost:20002/b", "postgres-1"),
        ("postgresql+psycopg://a@/b?host=127.0.0.1%3A20002", "postgres-1"),
        ("{home}/data/objects", "a path"),
        ("--config={home}/config/postgres-1/pgbackrest.conf archive-get %f", "a path"),
        ("{home}/restored/two/data", "a path"),
    ],
)
def test_every_name_of_the_running_system_is_one(traces: Traces, source: Layout, text: str, trace: str) -> None:
    (found,) = traces.within(text.format(home=source.home))
    assert found == f"{trace} of the running system"


def test_a_process_shows_its_command_environment_and_connections(traces: Traces, source: Layout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        running = Layout(source.home, source.tools, {**PORTS, "ingress": port}, (), None, "all")
        told = Traces(running, Layout(source.home / "restored" / "one", source.tools, {}, (), None, "serving"))
        code = f"import socket, sys; s = socket.create_connection(('127.0.0.1', {port})); print(flush=True); sys.stdin.read()"
        environment = {
            **os.environ,
            "ML_MLFLOW_URL": "http://127.0.0.1:20001",
            "SRE_HOME": str(source.home),
            "PWD": str(source.home),
        }
        command = [sys.executable, "-c", code, f"{source.home}/data"]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            found = set(told.of_process(psutil.Process(process.pid)))
            process.communicate()
    assert found == {
        "was started with a path of the running system",
        "has mlflow of the running system in ML_MLFLOW_URL",
        "is connected to ingress of the running system",
    }


def test_a_process_that_only_listens_is_connected_to_nothing(traces: Traces) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert not [why for why in traces.of_process(psutil.Process()) if "connected" in why]


@pytest.mark.local
def test_a_system_is_tied_to_itself_by_everything_that_is_looked_at(system: LocalTarget) -> None:
    found, looked = isolation.ties(system.layout, system.layout)
    assert looked > 20
    for tie in (
        f"it shares port {system.layout.ports['mlflow']} with the running system",
        "it has the running system's secret postgres.password",
        "it has the running system's secret api-key",
        "its server has archive_mode on",
    ):
        assert tie in found
    for end in ("has mlflow of the running system in ML_MLFLOW_URL", "is connected to postgres-1 of the running system"):
        assert any(tie.endswith(end) for tie in found)
    assert any(" was started with " in tie for tie in found)
