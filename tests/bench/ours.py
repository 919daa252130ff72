"""The real service: a system of its own with database, registry and monitoring, and serving processes beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from sre.config import PROJECT, Settings
from sre.targets.local import state, target
from sre.targets.local.layout import Layout
from sre.targets.local.plan import nodes
from sre.targets.local.service import Service
from system.config import MODEL_NAME, PRODUCTION_ALIAS
from system.model import artifact
from system.model.engines import open_graph, supported
from tests.bench import mobilenet
from tests.bench.processes import Command
from tests.bench.servers import Asked, Model, Subject

BUCKET = "ml-models-production"
MOBILENET_NAME = "bench-mobilenet-v3-small"
NAMES = {"resnet": MODEL_NAME, "mobilenet": MOBILENET_NAME}
SIDES = {"resnet": 32, "mobilenet": mobilenet.SIDE}
_GOLDEN = 32
_NOT_THERE = (400, 404)  # what the registry says of an alias that is not set, and of a name that is there already


@dataclass(frozen=True, slots=True)
class System:
    """The begun system, as far as a serving process beside it needs it."""

    layout: Layout
    supervisor: psutil.Process
    key: str

    def model_path(self, name: str) -> Path:
        """The registered float32 graph of `resnet` or `mobilenet`."""
        version = self._registry("GET", "registered-models/alias", {"name": NAMES[name], "alias": PRODUCTION_ALIAS})
        return self.layout.objects / BUCKET / NAMES[name] / str(version["model_version"]["version"]) / artifact.ONNX_NAME

    def subject(self, model: Model, variant: str, ports: Sequence[int], *, workers: int) -> Subject:
        """Our own serving processes, every feature on."""
        group = "replicas/ours" if len(ports) > 1 else f"ours/{variant}"
        kind = "two replicas" if len(ports) > 1 else f"{workers} workers"
        return Subject(
            key=f"{model.name}/{group}",
            title=f"ours, {kind}, {variant}",
            commands=[self._command(model, variant, port, workers) for port in ports],
            ports=ports,
            asked=Asked(path="/predict", headers={"Content-Type": "image/jpeg", "X-API-Key": self.key}, body=model.jpeg),
            model=model,
            exact=variant == artifact.FP32,
        )

    def _command(self, model: Model, variant: str, port: int, workers: int) -> Command:
        replica = next(node for node in nodes(self.layout) if isinstance(node, Service) and node.name == self.layout.replicas[0])
        own = {
            "ML_PORT": str(port), "ML_WORKERS": str(workers), "ML_REPLICA": f"bench-{port}", "ML_VARIANT": variant,
            "ML_MODEL_NAME": NAMES[model.name], "ML_CACHE_DIR": str(self.layout.home / "data" / "models" / f"bench-{port}"),
        }  # fmt: skip
        return Command(arguments=replica.command, environment={**replica.environment, **own}, folder=PROJECT)

    def register_mobilenet(self, say: Callable[[str], None]) -> None:
        """Put MobileNetV3-small into registry and bucket, unless it is there."""
        found = self._registry("GET", "registered-models/alias", {"name": MOBILENET_NAME, "alias": PRODUCTION_ALIAS}, _NOT_THERE)
        if found is not None and self.model_path("mobilenet").read_bytes() == mobilenet.data():
            return
        self._registry("POST", "registered-models/create", {"name": MOBILENET_NAME}, _NOT_THERE)
        source = f"s3://{BUCKET}/{MOBILENET_NAME}"  # of the kinds that need no run; nobody reads it
        made = self._registry("POST", "model-versions/create", {"name": MOBILENET_NAME, "source": source})
        version = str(made["model_version"]["version"])
        say(f"registering {MOBILENET_NAME} version {version}")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            manifest = _seal(folder, version)
            place = self.layout.objects / BUCKET / MOBILENET_NAME / version
            shutil.copytree(folder, place, dirs_exist_ok=True)
            tags = {"sha256": manifest.sha256, "manifest_sha256": artifact.sha256_file(folder / artifact.MANIFEST_NAME)}
        for key, value in tags.items():
            self._registry(
                "POST", "model-versions/set-tag", {"name": MOBILENET_NAME, "version": version, "key": key, "value": value}
            )
        self._registry("POST", "registered-models/alias", {"name": MOBILENET_NAME, "version": version, "alias": PRODUCTION_ALIAS})

    def _registry(self, method: str, path: str, content: dict[str, str], tolerated: Sequence[int] = ()) -> Any:
        """The registry's answer; None for a status that is tolerated."""
        url = f"{self.layout.url('mlflow')}/api/2.0/mlflow/{path}"
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.get(url, params=content) if method == "GET" else client.post(url, json=content)
        if answer.status_code in tolerated:
            return None
        answer.raise_for_status()
        return answer.json()


@contextmanager
def system(home: Path, say: Callable[[str], None]) -> Iterator[System]:
    """A system in a home of its own for as long as the context lasts; its data stay for the next time."""
    begun, by_us = target.up(home, Settings().tools, replicas=1, say=say)
    try:
        current = state.read(home)
        if current is None:
            raise RuntimeError(f"the system of {home} is gone; look into {home / 'logs'}")
        supervisor = psutil.Process(int(current.supervisor.partition("@")[0]))
        yield System(begun.layout, supervisor, begun.endpoints.api_key_file.read_text(encoding="utf-8").strip())
    finally:
        if by_us:
            target.down(home)


def _seal(folder: Path, version: str) -> artifact.Manifest:
    (folder / artifact.ONNX_NAME).write_bytes(mobilenet.data())
    random = np.random.default_rng(5)
    images = np.stack([
        np.asarray(Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((mobilenet.SIDE, mobilenet.SIDE)))
        for _ in range(_GOLDEN)
    ])  # fmt: skip
    answers = open_graph(folder / artifact.ONNX_NAME, "onnxruntime", "fp32", side=mobilenet.SIDE)(images)
    names = [artifact.FP32, *(["openvino-bf16"] if supported("openvino", "bf16") else [])]
    # nothing was learned, so there is no accuracy to speak of; the golden answers are what a variant is held to
    variants = [artifact.describe(folder, name, accuracy=1.0, agreement=1.0) for name in names]
    facts = artifact.Facts(
        model=MOBILENET_NAME, version=version, labels=tuple(str(label) for label in range(mobilenet.CLASSES)), metrics={},
        dataset_version="none", git_sha="unknown",
    )  # fmt: skip
    return artifact.seal(folder, facts, variants, artifact.Golden(images, answers))
