"""One dataset and one real MLflow server for the session; every test has its own store and its own model name."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from system.config import TrainSettings
from system.storage.objects import ObjectStore
from system.training.features import Features, features
from system.training.ingest import Dataset, ingest
from system.training.preprocess import preprocess

_UP_WITHIN_S = 90.0
_DOWN_WITHIN_S = 15.0

MakeSettings = Callable[..., TrainSettings]


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """The root of a store with one version of the dataset; nobody writes to it."""
    root = tmp_path_factory.mktemp("ingested")
    return root, ingest(ObjectStore(root), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.fixture
def dataset(ingested: tuple[Path, Dataset]) -> Dataset:
    return ingested[1]


@pytest.fixture
def objects(ingested: tuple[Path, Dataset], tmp_path: Path) -> ObjectStore:
    """A store of the test's own that holds the dataset. `put` replaces files, so links are as good as copies."""
    shutil.copytree(ingested[0], tmp_path / "objects", copy_function=os.link)
    return ObjectStore(tmp_path / "objects")


@pytest.fixture(scope="session")
def data(ingested: tuple[Path, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Features:
    root = tmp_path_factory.mktemp("features")
    shutil.copytree(ingested[0], root / "objects", copy_function=os.link)
    store = ObjectStore(root / "objects")
    return features(store, ingested[1], preprocess(store, ingested[1], 1))


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server that serves its artifacts itself."""
    folder = tmp_path_factory.mktemp("mlflow")
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


@pytest.fixture
def make_settings(mlflow_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> MakeSettings:
    """Settings whose store is the test's own and whose model has the test's name."""

    name = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name).strip("-")

    def make(**changed: Any) -> TrainSettings:
        own = {"objects_url": (tmp_path / "objects").as_uri(), "mlflow_url": mlflow_url, "model_name": name}
        return TrainSettings(**(own | {"epochs": 1} | changed))

    return make
