from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sre.dr import examination
from sre.dr.sets import BackupSet, Database, DatabaseBackup, RegisteredModel, Table
from sre.dr.vault import ObjectRef
from sre.errors import StepFailed
from sre.targets.local.layout import Layout

FILES = {
    "ml-datasets/1/0/a.png": b"an image",
    "ml-models-production/digits/1/model.onnx": b"a graph",
    "ml-models-production/digits/1/manifest.json": b"{}",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Mlflow:
    """What the double of MLflow holds, and its server's port."""

    port: int = 0
    away: bool = False
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [{"name": "digits", "aliases": [{"alias": "production", "version": "1"}]}]
    )
    files: dict[str, bytes] = field(
        default_factory=lambda: {Path(name).name: content for name, content in FILES.items() if "models" in name}
    )

    def answer(self, path: str, query: dict[str, str]) -> bytes | None:
        """The body for a request, None for 404."""
        if self.away:
            return None
        if path.endswith("registered-models/search"):
            return json.dumps({"registered_models": self.models}).encode()
        if path.endswith("model-versions/get"):
            return json.dumps({"model_version": {"version": query["version"], "run_id": f"run-of-{query['version']}"}}).encode()
        if path == "/get-artifact" and query["run_uuid"] == "run-of-1":
            return self.files.get(query["path"].removeprefix("model/"))
        return None


@pytest.fixture
def mlflow() -> Iterator[Mlflow]:
    double = Mlflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = double.answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()})
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        double.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield double
        server.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path, mlflow: Mlflow) -> Layout:
    layout = Layout(tmp_path, tmp_path / "tools", {"mlflow": mlflow.port}, ("serving-1",), None, "serving")
    for name, content in FILES.items():
        path = layout.objects / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (layout.objects / "ml-backups").mkdir()
    (layout.objects / "ml-backups" / "x").write_bytes(b"no object of the system")
    return layout


@pytest.fixture
def item() -> BackupSet:
    began = datetime(2026, 11, 24, 2, tzinfo=UTC)
    backup = DatabaseBackup(label="20261124-020000F", timeline=1, start_lsn="0/1", stop_lsn="0/2")
    versions = {"1": {name: sha256(content) for name, content in FILES.items() if "models" in name}}
    return BackupSet(
        id="20261124T020000Z-full", kind="full", reason="daily", began=began, ended=began,
        database=Database(stanza="ml", system_id="7", marker="set-1", marker_wal="0" * 24, backups={"store": backup}),
        objects={name: ObjectRef(sha256=sha256(content), size=len(content)) for name, content in FILES.items()},
        tables={"drills.public.history": Table(rows=1, checksum="a")},
        registry={"digits": RegisteredModel(versions=versions, aliases={"production": "1"})}, tools={},
    )  # fmt: skip


def test_objects_that_came_back_have_no_difference(item: BackupSet, place: Layout) -> None:
    assert examination.objects(item, place) == {"expected": 3, "lost": [], "altered": [], "invented": []}


def test_lost_altered_and_invented_objects_are_named(item: BackupSet, place: Layout) -> None:
    (place.objects / "ml-datasets/1/0/a.png").unlink()
    (place.objects / "ml-datasets/1/0/b.png").write_bytes(b"another")
    (place.objects / "ml-models-production/digits/1/model.onnx").write_bytes(b"a Graph")
    assert examination.objects(item, place) == {
        "expected": 3,
        "lost": ["ml-datasets/1/0/a.png"],
        "altered": ["ml-models-production/digits/1/model.onnx"],
        "invented": ["ml-datasets/1/0/b.png"],
    }


def test_a_registry_whose_files_are_handed_out_as_registered_is_right(item: BackupSet, place: Layout) -> None:
    assert examination.registry(item, place) == {"wrong": [], "loaded": ["digits 1"], "files": 2}


def test_a_file_that_mlflow_hands_out_altered_or_not_at_all_is_wrong(item: BackupSet, place: Layout, mlflow: Mlflow) -> None:
    mlflow.files["model.onnx"] = b"another graph"
    del mlflow.files["manifest.json"]
    wrong = examination.registry(item, place)["wrong"]
    assert wrong == [
        "model digits version 1: MLflow hands out manifest.json as status 404...",
        f"model digits version 1: MLflow hands out model.onnx as {sha256(b'another graph')[:12]}...",
    ]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "model digits is not in the registry"),
        ([{"name": "digits"}], "model digits has aliases none"),
        ([{"name": "digits", "aliases": [{"alias": "production", "version": 2}]}], "{'production': '2'}, the set says"),
        (
            [{"name": "digits", "aliases": [{"alias": "production", "version": "1"}]}, {"name": "other", "aliases": []}],
            "model other has aliases none, the set says nothing",
        ),
    ],
)
def test_another_registry_is_wrong(
    item: BackupSet, place: Layout, mlflow: Mlflow, models: list[dict[str, Any]], words: str
) -> None:
    mlflow.models = models
    assert words in "; ".join(examination.registry(item, place)["wrong"])


def test_a_registered_file_that_is_not_among_the_objects_is_wrong(item: BackupSet, place: Layout) -> None:
    (place.objects / "ml-models-production/digits/1/model.onnx").unlink()
    assert "model.onnx is missing" in examination.registry(item, place)["wrong"][0]


def test_an_mlflow_that_does_not_answer_is_an_error(item: BackupSet, place: Layout, mlflow: Mlflow) -> None:
    mlflow.away = True
    with pytest.raises(StepFailed, match=r"answers 404 to /api/2.0/mlflow/registered-models/search"):
        examination.registry(item, place)
