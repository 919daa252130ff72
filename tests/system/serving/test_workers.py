"""Several real processes on one port: they are replaced, count together, and end with the one that forked them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

KEY = "the-test-key"


def test_what_a_killed_launcher_left_of_metrics_goes_with_the_next(place: Any, start: Callable[..., Any]) -> None:
    folder = place.root / "cache" / "metrics"
    killed, running = (start(place.environment(workers=2)) for _ in range(2))
    for process in (killed, running):
        process.until("/health/live", 200)
    assert len(list(folder.iterdir())) == 2
    children = killed.children()
    killed.popen.kill()
    killed.popen.wait(5)
    killed.eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "its workers are gone")
    another = start(place.environment(workers=2))
    another.until("/health/live", 200)
    assert len(list(folder.iterdir())) == 2  # the killed one's is gone, the running one's stays
    assert [process.end() for process in (running, another)] == [0, 0]
    assert not list(folder.iterdir())


def test_a_worker_that_dies_is_replaced_and_the_counts_stay_right(
    place: Any, start: Callable[..., Any], make_picture: Any
) -> None:
    place.publish()
    process = start(place.environment(workers=2))
    process.until("/health/ready", 200)
    children = process.children()
    assert len(children) == 2
    for _ in range(20):  # each on its own connection: some at either worker
        _predicted(process, make_picture())
    os.kill(children[0], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while set(process.children()) & set(children) != {children[1]} or len(process.children()) < 2:
        assert time.monotonic() < deadline, f"children are {process.children()}, were {children}"
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


def _predicted(process: Any, image: bytes, within_s: float = 20) -> None:
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


def test_workers_end_with_their_parent(place: Any, start: Callable[..., Any]) -> None:
    process = start(place.environment(workers=2))
    process.until("/health/live", 200)
    children = process.children()
    process.popen.kill()
    process.popen.wait(5)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, f"of {children} some live on"
        time.sleep(0.05)
