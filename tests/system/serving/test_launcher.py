"""Real processes: start, signals, several workers. Each wait has a deadline."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from system.storage.engine import migrate

KEY = "the-test-key"


class Process:
    """`python -m system serve` on a free port."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "system", "serve"],
                env={**os.environ, **environment, "ML_PORT": str(port), "TMPDIR": str(log.parent)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def until(self, path: str, status: int, within_s: float = 20) -> httpx.Response:
        deadline, last = time.monotonic() + within_s, "nothing"
        while time.monotonic() < deadline:
            try:
                response = httpx.get(self.base + path, timeout=5)
            except httpx.TransportError as error:
                last = repr(error)
            else:
                if response.status_code == status:
                    return response
                last = response.text
            time.sleep(0.05)
        return pytest.fail(f"{path} did not answer {status} within {within_s} s (last: {last})\n{self.log.read_text()}")

    def predict(self, image: bytes) -> httpx.Response:
        headers = {"X-API-Key": KEY, "Content-Type": "image/jpeg"}
        return httpx.post(f"{self.base}/predict", content=image, headers=headers, timeout=5)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(30)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def start(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[[dict[str, str]], Process]]:
    started: list[Process] = []

    def begin(environment: dict[str, str]) -> Process:
        started.append(Process(environment, free_port(), tmp_path / f"log-{len(started)}"))
        return started[-1]

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait(5)


def test_sigterm_finishes_what_is_in_flight_writes_the_log_and_exits_0(
    place: Any, start: Callable[..., Process], database_url: str, make_picture: Any
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


def _until_refused(process: Process, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{process.base}/health/live", timeout=1)
        except httpx.TransportError:
            return
        time.sleep(0.02)
    pytest.fail(f"still accepts connections {within_s} s after SIGTERM")


def test_serving_loads_no_torch_and_no_mlflow(place: Any, start: Callable[..., Process]) -> None:
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


def test_a_worker_that_dies_is_replaced_and_the_counts_stay_right(
    place: Any, start: Callable[..., Process], make_picture: Any
) -> None:
    place.publish()
    process = start(place.environment(workers=2))
    process.until("/health/ready", 200)
    children = _children(process.popen.pid)
    assert len(children) == 2
    for _ in range(20):  # each on its own connection: some at either worker
        _predicted(process, make_picture())
    os.kill(children[0], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while set(_children(process.popen.pid)) & set(children) != {children[1]} or len(_children(process.popen.pid)) < 2:
        assert time.monotonic() < deadline, f"children are {_children(process.popen.pid)}, were {children}"
        time.sleep(0.05)
    for _ in range(5):
        _predicted(process, make_picture())
    for _ in range(4):
        metrics = process.until("/metrics", 200).text
        counted = [line for line in metrics.splitlines() if line.startswith("http_requests_total{") and "/predict" in line]
        assert 'http_requests_total{method="POST",path="/predict",status="200"} 25.0' in counted
        assert "model_version 1.0" in metrics.splitlines()
    memory = next(line for line in metrics.splitlines() if line.startswith("pod_memory_usage "))
    assert float(memory.split()[1]) > 100e6  # three processes, not one
    assert process.end() == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def _predicted(process: Process, image: bytes, within_s: float = 20) -> None:
    """One success; a connection that reached a dead or a cold worker is tried again, as the ingress would."""
    deadline, last = time.monotonic() + within_s, "nothing"
    while time.monotonic() < deadline:
        try:
            response = process.predict(image)
        except httpx.TransportError as error:
            last = repr(error)
        else:
            if response.status_code == 200:
                return
            last = response.text
        time.sleep(0.05)
    pytest.fail(f"no prediction within {within_s} s (last: {last})")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_workers_end_with_their_parent(place: Any, start: Callable[..., Process]) -> None:
    process = start(place.environment(workers=2))
    process.until("/health/live", 200)
    children = _children(process.popen.pid)
    process.popen.kill()
    process.popen.wait(5)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, f"of {children} some live on"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named(place: Any, start: Callable[..., Process], workers: int) -> None:
    first = start(place.environment())
    first.until("/health/live", 200)
    environment = {**os.environ, **place.environment(workers=workers), "ML_PORT": str(first.port)}
    command = [sys.executable, "-m", "system", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"ML_PORT {first.port}: Address already in use" in done.stderr
    assert first.end(signal.SIGINT) == 0
