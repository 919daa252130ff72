"""A real MLflow server, on a database and a folder of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests import servers
from tests.sre.targets.local.ports import free_port

_UP_WITHIN_S = 90.0


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A tracking server that serves its artifacts itself; its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        (folder / "artifacts").as_uri(),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://127.0.0.1:{port}"
    with servers.running(
        command, folder, quiet, lambda: httpx.get(f"{url}/health", timeout=2, trust_env=False), within_s=_UP_WITHIN_S
    ):
        yield url


def first_version(url: str, model: str) -> str:
    """Make a model, where there is none of the name, and a version of it with a run of its own; its number."""
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow/", timeout=30.0, trust_env=False) as mlflow:
        mlflow.post("registered-models/create", json={"name": model})
        info = mlflow.post("runs/create", json={"experiment_id": "0"}).raise_for_status().json()["run"]["info"]
        new = {"name": model, "source": f"{info['artifact_uri']}/model", "run_id": info["run_id"]}
        made = mlflow.post("model-versions/create", json=new).raise_for_status().json()
    return str(made["model_version"]["version"])
