"""A real serving process with a tiny model, whose keys may do everything."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.serving.conftest import KEY, place, registry

__all__ = ["place", "registry"]  # the fixtures of the serving tests

START_S = 30


@dataclass
class Process:
    """`python -m system serve`.

    Attributes:
        url: without a path.
        port: on 127.0.0.1.
    """

    popen: subprocess.Popen[bytes]
    url: str
    port: int

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


@pytest.fixture
def serve(place: Any, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts the process with settings of one's own; afterwards it ends in good order and has logged no failure."""
    begun: list[Process] = []
    log = tmp_path / "log"

    def start(**settings: Any) -> Process:
        place.publish()
        keys = [{"name": "all", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["predict", "admin"]}]
        (place.root / "keys.json").write_text(json.dumps({"keys": keys}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # no database is there: what waits to be written stays few
        environment = place.environment(recorder_capacity=100, drain_pause_s=0, **settings) | {"ML_PORT": str(port)}
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "system", "serve"], env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT
            )
        begun.append(Process(popen, f"http://127.0.0.1:{port}", port))
        _until_ready(begun[0], log)
        return begun[0]

    yield start
    for process in begun:
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(START_S) == 0
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            assert "stack" not in entry, line
            assert "request failed" not in entry["message"], line


def _until_ready(process: Process, log: Path) -> None:
    deadline, last = time.monotonic() + START_S, "nothing"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{process.url}/health/ready", timeout=5)
        except httpx.TransportError as error:
            last = repr(error)
        else:
            if response.status_code == 200:
                return
            last = response.text
        time.sleep(0.05)
    process.popen.kill()
    pytest.fail(f"not ready within {START_S} s (last: {last})\n{log.read_text()}")
