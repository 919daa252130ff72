from __future__ import annotations

import hashlib
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from sre.errors import StepFailed
from sre.targets.registry import CANDIDATE, MODEL, PRODUCTION, Registry, Version
from tests.mlflow_server import first_version

AWAY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def registry(mlflow_url: str) -> Registry:
    return Registry(mlflow_url)


@pytest.fixture(scope="module")
def first(mlflow_url: str) -> Version:
    """A version of the model, without files."""
    found = Registry(mlflow_url).version(first_version(mlflow_url, MODEL))
    assert found is not None
    return found


def test_a_version_is_made_with_files_of_its_own(registry: Registry, first: Version) -> None:
    made = registry.create(first, {"sha256": "of-the-graph"})
    assert int(made.number) > int(first.number)
    assert made.run != first.run
    registry.put(made, "model.onnx", b"a graph")
    registry.tag(made, "manifest_sha256", "of-the-manifest")
    assert registry.version(made.number) == Version(
        made.number, made.run, made.source, {"sha256": "of-the-graph", "manifest_sha256": "of-the-manifest"}
    )
    assert registry.sha256(made, "model.onnx") == hashlib.sha256(b"a graph").hexdigest()
    assert registry.sha256(first, "model.onnx") == "status 404"
    assert registry.sha256(made, "golden.npz") == "status 404"


def test_an_alias_moves(registry: Registry, first: Version) -> None:
    second = registry.create(first, {})
    for version in (first, second):
        registry.name(PRODUCTION, version.number)
        registry.name(CANDIDATE, first.number)
        assert registry.named(PRODUCTION) == version
        assert registry.aliases()[MODEL] == {PRODUCTION: version.number, CANDIDATE: first.number}


def test_what_there_is_not_is_none(registry: Registry, mlflow_url: str, first: Version) -> None:
    assert registry.version("99999") is None
    assert registry.version("no number") is None
    assert registry.named("nobody") is None
    assert registry.named(PRODUCTION, model="no-such-model") is None
    other = f"other-{uuid.uuid4()}"
    httpx.post(f"{mlflow_url}/api/2.0/mlflow/registered-models/create", json={"name": other}, trust_env=False).raise_for_status()
    assert registry.aliases()[other] == {}


def test_a_registry_that_refuses_is_told(registry: Registry, first: Version) -> None:
    with pytest.raises(StepFailed, match=r"the registry answers 404 to /api/2\.0/mlflow/registered-models/alias: .*99999"):
        registry.name(PRODUCTION, "99999")
    nobody = Version("1", "0" * 32, "", {})
    with pytest.raises(StepFailed, match=r"the registry answers 404 to /api/2\.0/mlflow/runs/get"):
        registry.create(nobody, {})


def test_a_registry_that_is_away_is_told() -> None:
    away = Registry(AWAY)
    version = Version("1", "r", "", {})
    for ask in (away.aliases, lambda: away.named(PRODUCTION), lambda: away.version("1"), lambda: away.put(version, "a", b"")):
        with pytest.raises(StepFailed, match=r"the registry at .*:1 does not answer .*; look at MLflow's log"):
            ask()
    with pytest.raises(StepFailed, match=r"does not answer GET get-artifact model\.onnx"):
        away.sha256(version, "model.onnx")


def test_what_is_no_registry_is_told() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with pytest.raises(StepFailed, match="with no JSON: <html>hello</html>; is the address MLflow's"):
            Registry(f"http://127.0.0.1:{server.server_port}").aliases()
        server.shutdown()
        thread.join()
