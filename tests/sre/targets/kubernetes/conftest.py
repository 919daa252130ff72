"""An API server made of a dict, and the real cluster where there is one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.place import Place
from tests.cluster import Cluster, cluster, kubectl
from tests.kubernetes_system import system_on_cluster
from tests.sre.targets.kubernetes.programs import Programs

__all__ = ["cluster", "kubectl", "system_on_cluster"]


class Served(ThreadingHTTPServer):
    """Answers with what `objects` holds at a path: an object, a list of them in turn, of which the last stays, or a status; with
    the bytes that `raw` holds first of all.

    What is changed is answered the same way, and noted in `changes` as method, path, kind of content, and content. Who asked is
    noted in `authorizations`, where a header says so.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, Any] = {}
        self.changes: list[tuple[str, str, str | None, Any]] = []
        self.raw: dict[str, bytes] = {}
        self.authorizations: list[str] = []

    def answer(self, path: str) -> tuple[int, Any]:
        found = self.objects.get(path, 404)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return (found, {"message": "no"}) if isinstance(found, int) else (200, found)


class _Handler(BaseHTTPRequestHandler):
    server: Served

    def do_GET(self) -> None:
        if who := self.headers.get("Authorization"):
            self.server.authorizations.append(who)
        raw = self.server.raw.get(self.path)
        status, body = self.server.answer(self.path) if raw is None else (200, None)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() if raw is None else raw)

    def do_PATCH(self) -> None:
        self._change()

    def do_POST(self) -> None:
        self._change()

    def do_DELETE(self) -> None:
        self._change()

    def _change(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = json.loads(body) if body else None
        self.server.changes.append((self.command, self.path, self.headers.get("Content-Type"), content))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def served() -> Iterator[Served]:
    """The API server."""
    with Served() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def kubeconfig(served: Served, tmp_path: Path) -> str:
    """A file that names it, with two contexts."""
    file = tmp_path / "kubeconfig"
    contexts = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("testbed", "eu-Prod-1")]
    clusters = [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{served.server_address[1]}"}}]
    users = [{"name": "u", "user": {}}]
    content = {"kind": "Config", "apiVersion": "v1", "current-context": "testbed", "contexts": contexts, "clusters": clusters}
    file.write_text(yaml.safe_dump({**content, "users": users}), encoding="utf-8")
    return str(file)


@pytest.fixture
def api(kubeconfig: str) -> Api:
    """Asks it."""
    return Api(kubeconfig, None)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Stand-ins for kubectl and velero, the only ones on PATH."""
    made = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(made.folder))
    return made


@pytest.fixture
def place(tmp_path: Path, kubeconfig: str) -> Place:
    """What `sre up` leaves of a system that it began there."""
    made = Place(tmp_path, kubeconfig, "testbed", "dev")
    made.write()
    return made


@pytest.fixture
def stand_in(cluster: Cluster) -> Iterator[str]:
    """A namespace with three pods that answer as replicas do, which is all that the target asks of them."""
    namespace = f"stand-in-{uuid.uuid4().hex[:8]}"
    try:
        cluster.run("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": _stand_in(namespace)}))
        cluster.run("rollout", "status", "deployment", "ml-api", "-n", namespace, "--timeout=120s", within_s=150)
        yield namespace
    finally:
        cluster.run("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def _stand_in(namespace: str) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/name": "ml-api", "track": "stable"}
    serve = "mkdir -p /tmp/health && echo yes > /tmp/health/ready && exec httpd -f -p 5000 -h /tmp"
    container = {
        "name": "api",
        "image": "docker.io/library/busybox:1.37",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/health/ready", "port": 5000}, "periodSeconds": 2},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of the container
    }
    pod = {
        "shareProcessNamespace": True,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    secured = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": secured}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "ml-api", "namespace": namespace},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": template},
        },
    ]
