"""How each server is started, what is sent to it, and where its answer holds the probabilities."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sre.config import PROJECT
from tests.bench import envs
from tests.bench.processes import Command

PEERS_FOLDER = Path(__file__).parent / "peers"
BOUNDARY = "bench-boundary-7d1f"
WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, the same for every connection."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A graph that every server serves, and the picture that is sent.

    Attributes:
        name: `resnet` or `mobilenet`.
        path: of the graph.
        side: of its input, pixels.
        jpeg: the picture.
    """

    name: str
    path: Path
    side: int
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server to measure.

    Attributes:
        key: of its row.
        title: for people.
        commands: one process per replica.
        ports: of each replica.
        asked: what is sent.
        model: what it serves.
        exact: whether its probabilities must be those of the graph with our transform.
    """

    key: str
    title: str
    commands: Sequence[Command]
    ports: Sequence[int]
    asked: Asked
    model: Model
    exact: bool = True


def peer(name: str, model: Model, ports: Sequence[int], *, mode: str, workers: int) -> Subject:
    """A peer; with several ports, that many replicas of one process each."""
    kind = "two replicas" if len(ports) > 1 else "one process" if workers == 0 else f"{workers} workers"
    group = "replicas" if len(ports) > 1 else mode
    return Subject(
        key=f"{model.name}/{group}/{name}",
        title=f"{name}, {kind}{', Pillow' if mode == 'tutorial' else ''}",
        commands=[_command(name, model, port, mode, workers) for port in ports],
        ports=ports,
        asked=asked(name, model.jpeg),
        model=model,
        exact=mode == "lent",
    )


def bare(kind: str, model: Model, port: int, *, workers: int) -> Subject:
    """The hot path and nothing else, or with `raw` not even that."""
    environment = {"BENCH_MODEL": str(model.path), "BENCH_SIDE": str(model.side)}
    arguments = [sys.executable, "-m", "tests.bench.bare", kind, str(port), str(workers)]
    return Subject(
        key=f"{model.name}/bare/{kind}",
        title={"hot": "bare hot path, no feature, 2 workers", "raw": "uvicorn that reads the body, 1 worker"}[kind],
        commands=[Command(arguments=arguments, environment=environment, folder=PROJECT)],
        ports=[port],
        asked=Asked(path="/predict", headers={"Content-Type": "image/jpeg"}, body=model.jpeg),
        model=model,
        exact=kind == "hot",
    )


def asked(name: str, jpeg: bytes) -> Asked:
    """What a peer's own interface wants."""
    encoded = base64.b64encode(jpeg).decode()
    match name.partition("-")[0]:
        case "kserve":
            return _json("/v1/models/bench:predict", {"instances": [{"image": {"b64": encoded}}]})
        case "mlserver":
            tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}
            return _json("/v2/models/bench/infer", {"inputs": [tensor | {"parameters": {"content_type": "base64"}}]})
        case "mlflow":
            return _json("/invocations", {"inputs": [encoded]})
        case "bentoml":
            return _form("image", jpeg)
        case "litserve":
            return _form("content", jpeg)
    raise ValueError(f"{name} is no peer")


def probabilities(document: Any, classes: int) -> list[float] | None:
    """The first list of that many numbers in an answer, wherever its server puts it."""
    if isinstance(document, list) and len(document) == classes and all(isinstance(item, float | int) for item in document):
        return [float(item) for item in document]
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return next((found for item in inner if (found := probabilities(item, classes)) is not None), None)


def _json(path: str, document: object) -> Asked:
    return Asked(path=path, headers={"Content-Type": "application/json"}, body=json.dumps(document).encode())


def _form(field: str, jpeg: bytes) -> Asked:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="m.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = head.encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Asked(path="/predict", headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body=body)


def _command(name: str, model: Model, port: int, mode: str, workers: int) -> Command:
    where = envs.folder(name)
    environment = {
        "BENCH_MODEL": str(model.path), "BENCH_SIDE": str(model.side), "BENCH_MODE": mode, "BENCH_WORKERS": str(workers),
        "PYTHONPATH": f"{PEERS_FOLDER}:{PROJECT}", "PYTHONDONTWRITEBYTECODE": "1", "PATH": f"{where / 'bin'}:/usr/bin:/bin",
        "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip
    folder = PEERS_FOLDER
    match name.partition("-")[0]:
        case "kserve":
            arguments = [
                "python", "kserve_server.py", f"--http_port={port}", f"--workers={workers}", "--enable_grpc=false",
                "--enable_latency_logging=false", "--log_config_file=kserve_logging.json",
            ]  # fmt: skip
        case "mlserver":
            folder = _mlserver_folder(port, workers)
            arguments = ["mlserver", "start", "."]
        case "mlflow":
            saved = _mlflow_model(where, environment)
            arguments = ["mlflow", "models", "serve", "-m", str(saved), "-h", "127.0.0.1", "-p", str(port), "-w", str(workers),
                         "--env-manager", "local"]  # fmt: skip
        case "bentoml":
            arguments = ["bentoml", "serve", "bentoml_service:Bench", "--host", "127.0.0.1", "--port", str(port)]
        case _:
            arguments = ["python", "litserve_server.py", str(port), str(workers)]
    return Command(arguments=[str(where / "bin" / arguments[0]), *arguments[1:]], environment=environment, folder=folder)


def _mlserver_folder(port: int, workers: int) -> Path:
    folder = envs.ROOT / "run" / f"mlserver-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    # two more ports than it is asked for; they follow the first, which the caller left room for
    settings = {"debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    (folder / "settings.json").write_text(json.dumps(settings | {"parallel_workers": workers}), encoding="utf-8")
    model = {"name": "bench", "implementation": "mlserver_model.Bench"}
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return folder


def _mlflow_model(where: Path, environment: Mapping[str, str]) -> Path:
    saved = envs.ROOT / "run" / "mlflow-model"
    if not (saved / "MLmodel").exists():
        saved.parent.mkdir(parents=True, exist_ok=True)
        command = [str(where / "bin" / "python"), "mlflow_model.py", str(saved)]
        subprocess.run(command, cwd=PEERS_FOLDER, env=dict(environment), capture_output=True, timeout=120, check=True)
    return saved
