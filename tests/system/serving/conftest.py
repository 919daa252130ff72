"""A model small enough to make in a moment, a registry that answers as MLflow does, and settings that point at both."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from system.config import MODEL_NAME, ServeSettings
from system.model.artifact import Facts, describe, seal, sha256_file
from system.model.engines import golden
from system.serving import problems, routes
from system.serving.app import Application, create_app
from system.serving.service import Service

KEY = "the-test-key"


def tiny_onnx(seed: int) -> bytes:
    """uint8 (batch, 32, 32, 3) -> float32 (batch, 10), softmax of a random linear map."""
    weights = np.random.default_rng(seed).normal(0, 0.0005, (3072, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    onnx.checker.check_model(model)
    return data


def picture(kind: str = "JPEG", size: tuple[int, int] = (48, 40), seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., bytes]:
    return picture


@dataclass
class Registry:
    """Answers the one call that serving makes, as MLflow 3 does."""

    version: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    challenger: str = ""
    challenger_tags: dict[str, str] = field(default_factory=dict)
    status: int = 200
    body: str | None = None
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    url: str = ""

    def answer(self, alias: str) -> tuple[int, str]:
        if self.body is not None:
            return self.status, self.body
        version, found = (self.challenger, self.challenger_tags) if alias == "challenger" else (self.version, self.tags)
        if not version:
            return 400, json.dumps(
                {"error_code": "INVALID_PARAMETER_VALUE", "message": f"Registered model alias {alias} not found."}
            )
        tags = [{"key": key, "value": value} for key, value in found.items()]
        return self.status, json.dumps({"model_version": {"name": MODEL_NAME, "version": version, "tags": tags}})


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = parse_qs(parts.query)
            registry.asked.append(asked)
            is_alias = parts.path == "/api/2.0/mlflow/registered-models/alias"
            status, body = registry.answer(asked["alias"][0]) if is_alias else (404, "{}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield registry
        server.shutdown()
        thread.join()


@dataclass
class Place:
    """Where one test's replica finds its things."""

    root: Path
    registry: Registry

    def publish(self, version: str = "1", *, seed: int = 0, promote: bool = True, challenge: bool = False) -> Path:
        """Put a model into the bucket as training does, and let an alias point at it."""
        folder = self.root / "objects" / "ml-models-production" / MODEL_NAME / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(tiny_onnx(seed))
        images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
        facts = Facts(
            model=MODEL_NAME,
            version=version,
            labels=tuple("0123456789"),
            metrics={"accuracy": 0.99},
            dataset_version="2026-01-01-000000",
            git_sha="unknown",
        )
        variants = [describe(folder, "fp32", accuracy=0.99, agreement=1.0)]
        manifest = seal(folder, facts, variants, golden(folder, images))
        tags = {"sha256": manifest.sha256, "manifest_sha256": sha256_file(folder / "manifest.json")}
        if challenge:
            self.registry.challenger, self.registry.challenger_tags = version, tags
        elif promote:
            self.registry.version, self.registry.tags = version, tags
        return folder

    def environment(self, **changes: Any) -> dict[str, str]:
        values = {
            "objects_url": f"file://{self.root}/objects",
            "mlflow_url": self.registry.url,
            "database_url": "postgresql://nobody@127.0.0.1:9/nowhere",
            "api_keys_file": self.root / "keys.json",
            "cache_dir": self.root / "cache",
        }
        return {f"ML_{name.upper()}": str(value) for name, value in (values | changes).items()}

    def settings(self, **changes: Any) -> ServeSettings:
        values = {name.removeprefix("ML_").lower(): value for name, value in self.environment(**changes).items()}
        return ServeSettings.model_validate(values)


@pytest.fixture
def place(tmp_path: Path, registry: Registry) -> Place:
    keys = {"keys": [{"name": "other", "sha256": "0" * 64}, {"name": "test", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    return Place(tmp_path, registry)


class Running(Protocol):
    def __call__(self, settings: ServeSettings) -> Any: ...


@pytest.fixture
def application() -> Callable[[Service], Application]:
    """Another application around the service of one that runs."""

    def build(service: Service) -> Application:
        routed = Application()
        routed.state.service = service
        routes.add(routed, service)
        problems.install(routed)
        return routed

    return build


@pytest.fixture
def running() -> Running:
    """The application with its life cycle, in this process; yields its service and a client."""

    @asynccontextmanager
    async def run(settings: ServeSettings) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            client.headers["X-API-Key"] = KEY
            yield app.state.service, client

    return run


@pytest.fixture
async def ready(place: Place, running: Running) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    place.publish("4")
    async with running(place.settings(max_body_bytes=100_000, max_pixels=1_000_000)) as (service, client):
        service.recorder._capacity = 0  # there is no database here; the recorder has tests of its own
        async with asyncio.timeout(10):
            while service.loader.production is None:  # noqa: ASYNC110 - the loader tells nobody, as readiness is polled
                await asyncio.sleep(0.01)
        yield service, client


class Process:
    """`python -m system serve` on a free port."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "system", "serve"],
                env={**os.environ, "ML_DRAIN_PAUSE_S": "0.1", **environment, "ML_PORT": str(port), "TMPDIR": str(log.parent)},
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

    @staticmethod
    def eventually(holds: Callable[[], bool], what: str, within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.02)

    def children(self) -> list[int]:
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return [int(child) for child in children.read_text().split()] if children.exists() else []


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
