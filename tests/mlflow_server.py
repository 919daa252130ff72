"""A real MLflow server, on a database and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

_UP_WITHIN_S = 90.0
_DOWN_WITHIN_S = 15.0


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A tracking server that serves its artifacts itself; its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        (folder / "artifacts").as_uri(),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=os.environ | quiet, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _await_health(server, url, log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(_DOWN_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # a worker that outlived the server


def _await_health(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _UP_WITHIN_S
    seen = "nothing"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"mlflow server ended with {server.returncode}:\n{log.read_text()[-2000:]}")
        try:
            answer = httpx.get(f"{url}/health", timeout=2, trust_env=False)
            if answer.status_code == 200:
                return
            seen = str(answer.status_code)
        except httpx.HTTPError as error:
            seen = repr(error)
        time.sleep(0.1)
    pytest.fail(f"mlflow server not up after {_UP_WITHIN_S:.0f} s (last: {seen}):\n{log.read_text()[-2000:]}")


def first_version(url: str, model: str) -> str:
    """Make a model, where there is none of the name, and a version of it with a run of its own; its number."""
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow/", timeout=30.0, trust_env=False) as mlflow:
        mlflow.post("registered-models/create", json={"name": model})
        info = mlflow.post("runs/create", json={"experiment_id": "0"}).raise_for_status().json()["run"]["info"]
        new = {"name": model, "source": f"{info['artifact_uri']}/model", "run_id": info["run_id"]}
        made = mlflow.post("model-versions/create", json=new).raise_for_status().json()
    return str(made["model_version"]["version"])
