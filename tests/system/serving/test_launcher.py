"""Start, signals, drain, of real processes; and how connections are taken. Each wait has a deadline."""

from __future__ import annotations

import asyncio
import errno
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn

from system.serving import launcher
from system.serving.app import create_app
from system.serving.service import Service
from system.storage.engine import migrate

KEY = "the-test-key"


def test_sigterm_finishes_what_is_in_flight_writes_the_log_and_exits_0(
    place: Any, start: Callable[..., Any], database_url: str, make_picture: Any
) -> None:
    migrate(database_url)
    place.publish("3")
    process = start(place.environment(database_url=database_url))
    process.until("/health/ready", 200)
    assert process.predict(make_picture()).headers["X-Model-Version"] == "3"
    image = make_picture()
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as slow:
        head = [
            "POST /predict HTTP/1.1",
            "Host: x",
            f"X-API-Key: {KEY}",
            "Content-Type: image/jpeg",
            f"Content-Length: {len(image)}",
        ]
        slow.sendall("\r\n".join([*head, "", ""]).encode() + image[:100])
        process.until("/health/live", 200)  # by now the first half has been read
        process.popen.send_signal(signal.SIGTERM)
        _until_refused(process)
        slow.sendall(image[100:])
        answer = slow.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert process.popen.wait(15) == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (2,)
    assert process.lines()[-1]["message"] == "drained and stopped"


def _until_refused(process: Any, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{process.base}/health/live", timeout=1)
        except httpx.TransportError:
            return
        time.sleep(0.02)
    pytest.fail(f"still accepts connections {within_s} s after SIGTERM")


class User(threading.Thread):
    """A client with a connection to the first of two ports, that goes to the second when an answer says `Connection: close`."""

    def __init__(self, ports: list[int], image: bytes) -> None:
        super().__init__()
        self.ports, self.image, self.done = ports, image, threading.Event()
        self.answered = dict.fromkeys(ports, 0)
        self.failed: list[str] = []

    def run(self) -> None:
        port = self.ports[0]
        while not self.done.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                closes = False
                while not closes and not self.done.is_set():
                    try:
                        connection.request("POST", "/predict", self.image, {"X-API-Key": KEY, "Content-Type": "image/jpeg"})
                        answer = connection.getresponse()
                        answer.read()
                    except OSError as error:
                        self.failed.append(f"port {port}: {error!r}")
                        break
                    closes = answer.getheader("Connection") == "close"
                    if answer.status == 200:
                        self.answered[port] += 1
                    else:
                        self.failed.append(f"port {port}: {answer.status}")
            if closes:
                port = self.ports[1]


def test_a_drain_under_load_fails_no_request_of_clients_that_go_when_told(
    place: Any, start: Callable[..., Any], make_picture: Any
) -> None:
    place.publish()
    leaving, staying = (start(place.environment(workers=2, drain_pause_s=2)) for _ in range(2))
    for process in (leaving, staying):
        for _ in range(10):  # both workers
            process.until("/health/ready", 200)
    users = [User([leaving.port, staying.port], make_picture()) for _ in range(16)]
    for user in users:
        user.start()
    try:
        leaving.eventually(lambda: all(user.answered[leaving.port] > 10 for user in users), "every client is served")
        leaving.popen.send_signal(signal.SIGTERM)
        leaving.eventually(lambda: all(user.answered[staying.port] > 10 for user in users), "every client is served elsewhere")
        assert leaving.popen.wait(30) == 0
    finally:
        for user in users:
            user.done.set()
            user.join(10)
    assert [user.failed for user in users] == [[]] * 16


def test_while_it_drains_it_takes_connections_and_is_not_ready(place: Any, start: Callable[..., Any]) -> None:
    place.publish()
    process = start(place.environment(drain_pause_s=3))
    process.until("/health/ready", 200)
    process.popen.send_signal(signal.SIGTERM)
    answer = process.until("/health/ready", 503)
    assert answer.headers["connection"] == "close"
    assert process.until("/health/live", 200).headers["connection"] == "close"
    assert process.popen.wait(15) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_before_anything_is_served_ends_well(place: Any, start: Callable[..., Any], workers: int) -> None:
    process = start(place.environment(workers=workers))
    process.eventually(lambda: _handles_sigterm(process.popen.pid), "SIGTERM is handled")
    assert process.end() == 0
    process.eventually(lambda: not process.children(), "no worker is left")


def _handles_sigterm(pid: int) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1)


def test_the_limit_of_open_files_is_raised_to_what_connections_need(place: Any, start: Callable[..., Any]) -> None:
    process = start(place.environment(max_connections=1500))
    process.until("/health/live", 200)
    soft, hard = resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE)
    assert soft == hard or soft >= 1500 + 256


def test_serving_loads_no_torch_and_no_mlflow(place: Any, start: Callable[..., Any]) -> None:
    place.publish()
    process = start(place.environment() | {"PYTHONPROFILEIMPORTTIME": "1"})
    process.until("/health/ready", 200)
    assert process.end() == 0
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in process.log.read_text().splitlines()
        if "import time:" in line
    }
    assert "onnxruntime" in imported
    assert not imported & {"torch", "mlflow", "sklearn", "onnx"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named(place: Any, start: Callable[..., Any], workers: int) -> None:
    first = start(place.environment())
    first.until("/health/live", 200)
    environment = {**os.environ, **place.environment(workers=workers), "ML_PORT": str(first.port)}
    command = [sys.executable, "-m", "system", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"ML_PORT {first.port}: Address already in use" in done.stderr
    assert first.end(signal.SIGINT) == 0


class Listener(socket.socket):
    """A listening socket on a free port; `full` as it is when the process may open no more files."""

    full = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self.full:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.fixture
async def waiting(place: Any) -> AsyncIterator[tuple[Any, Listener]]:
    """A server that has not begun, and 100 connections that the kernel took for it."""
    settings = place.settings()
    config = uvicorn.Config(create_app(settings), lifespan="off", log_config=None, ws="none")
    config.load()
    server = launcher._Server(config, Service(settings))
    server.lifespan = config.lifespan_class(config)
    with ExitStack() as opened:
        listener = opened.enter_context(Listener())
        listener.bind(("127.0.0.1", 0))
        listener.listen(200)
        for _ in range(100):
            opened.enter_context(socket.create_connection(listener.getsockname()))
        yield server, listener
        asyncio.get_running_loop().remove_reader(listener)
        server._sweeper.cancel()
        for connection in server.server_state.connections:
            connection.transport.abort()


async def passes_until_taken(server: Any, most: int = 1000, pause_s: float = 0) -> int:
    passes = 0
    while len(server.server_state.connections) < 100 and passes < most:
        passes += 1
        await asyncio.sleep(pause_s)
    return passes


@pytest.mark.parametrize("at_once", [launcher._ACCEPTED_AT_ONCE, 1])
async def test_a_storm_of_connections_is_taken_in_few_passes(
    waiting: tuple[Any, Listener], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Sabotage included: one in a pass is what libuv does. A pass of a busy server takes milliseconds."""
    server, listener = waiting
    monkeypatch.setattr(launcher, "_ACCEPTED_AT_ONCE", at_once)
    await server.startup([listener])
    assert (await passes_until_taken(server) <= 10) == (at_once > 1)


async def test_without_files_for_connections_they_wait_and_the_processor_does_not_spin(
    waiting: tuple[Any, Listener], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, listener = waiting
    monkeypatch.setattr(launcher, "_ACCEPT_PAUSE_S", 0.05)
    listener.full = True
    await server.startup([listener])
    assert await passes_until_taken(server, most=20) == 20
    assert caplog.text.count("no connection is taken for 0 s: Too many open files") == 1
    listener.full = False
    assert await passes_until_taken(server, pause_s=0.01) < 1000
