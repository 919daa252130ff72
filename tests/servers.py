"""A real server of somebody else's, as a process of its own for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

_DOWN_WITHIN_S = 15.0


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], health: Callable[[], httpx.Response], within_s: float
) -> Iterator[None]:
    """The server once it is healthy; it and whatever it started is gone afterwards.

    Args:
        command: program and arguments.
        folder: to start in; gets its log.
        environment: added to ours.
        health: answers 200 when it is up; else the test fails with the server's last words.
        within_s: for that.
    """
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=os.environ | environment, start_new_session=True
        )
    try:
        _await(server, health, within_s, log)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(_DOWN_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # a worker that outlived the server


def _await(server: subprocess.Popen[bytes], health: Callable[[], httpx.Response], within_s: float, log: Path) -> None:
    deadline = time.monotonic() + within_s
    seen = "nothing"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}:\n{log.read_text()[-2000:]}")
        try:
            answer = health()
            if answer.status_code == httpx.codes.OK:
                return
            seen = str(answer.status_code)
        except httpx.HTTPError as error:
            seen = repr(error)
        time.sleep(0.1)
    pytest.fail(f"the server is not up after {within_s:.0f} s (last: {seen}):\n{log.read_text()[-2000:]}")
