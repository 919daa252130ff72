"""Probes of a cluster's network: pods that wear the labels by which policies tell workloads apart, and ask every server.

A probe is never ready, so no Service sends it a request, and it lacks the label `track`, without which nobody counts it among the
replicas. Headless Services that list also what is not ready list it: Prometheus then misses a target for as long. It holds no
token, and ends by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sre.errors import CannotRun, StepFailed
from sre.judges.manifests import ways
from sre.judges.manifests.objects import Manifests, Workload, has
from sre.readings import Try
from sre.targets.kubernetes.client import Api

# Selectors that must pass probes over end with NO_PROBE.
LABEL = "sre-probe"
NO_PROBE = f"%2C%21{LABEL}"
_PROBES = f"/api/v1/pods?labelSelector={LABEL}"
_CLOTHES = "app.kubernetes.io/"
_CONTAINER = "probe"
# Of the pod that is beyond the workloads.
_PORT = 8080
_METADATA = "169.254.169.254"
_KUBELET = 10250
_LIVES_S = 900
ASKED_WITHIN_S = 40.0
POOL = 24
_LISTEN = """
import socket, sys, time
servers = [socket.create_server(("", int(port)), backlog=64) for port in sys.argv[1:]]
time.sleep(3600)
"""
# All at once, since whoever is not let through waits for its time limit.
_ASK = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def ask(to):
    try:
        if to[1] == 53:
            socket.getaddrinfo(to[0], None)
        else:
            socket.create_connection(to, 3).close()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or str(error)
    return "open"
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(ask, [tuple(to) for to in json.loads(sys.argv[1])]))))
"""
_LISTENS = "0A"
_LOOPBACK = frozenset({"0100007F", "00000000000000000000000001000000"})


@dataclass(frozen=True, slots=True)
class _Server:
    """Something to ask: whose it is, which pod or host of it, its address, its port; the node that it is, if it is one."""

    to: str
    at: str
    address: str
    port: int
    node: str = ""


class KubernetesNetwork:
    """See `targets.network.Network`.

    Args:
        api: of the cluster.
        render: what was applied.
        image: that every node has and that holds Python.
    """

    def __init__(self, api: Api, render: Callable[[], Manifests], image: Callable[[], str]) -> None:
        self._api, self._render, self._image = api, render, image
        self._workloads: tuple[Workload, ...] = ()

    def begin(self) -> tuple[str, ...]:
        """Whose namespaces there are. A server none of whose pods runs, as that of a canary at rest, is played by its probe."""
        made, image = self._render(), self._image()
        self._workloads = made.workloads
        there = {one["metadata"]["name"] for one in self._api.get("/api/v1/namespaces")["items"]}
        pods = self._pods()
        probes = [
            _workload_probe(one, image, () if pods[one.path] else sorted(set(one.ports.values()))) for one in made.workloads
        ]
        guests = sorted({place for place, _, _ in ways.OUTSIDE} & there)
        probes += [_guest_probe(place, image) for place in (*guests, ways.STRANGER.partition("/")[0])]
        for probe in probes:
            if self._api.post(f"/api/v1/namespaces/{probe['metadata']['namespace']}/pods", probe) >= 300:
                raise CannotRun(f"namespace {probe['metadata']['namespace']} is not there; run `sre up --target kubernetes`")
        return tuple(_role(probe) for probe in probes)

    def waiting(self) -> str:
        """Until each runs."""
        late = [one for one in self._probes() if one["status"].get("phase") != "Running"]
        return ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']} {_why(one)}" for one in late)

    def tries(self) -> tuple[Try, ...]:
        """Over `exec`, which no policy sees."""
        probes = self._probes()
        servers = [*self._servers(probes), *self._beyond(probes)]
        with ThreadPoolExecutor(POOL) as pool:
            return tuple(one for found in pool.map(lambda probe: self._asked(probe, servers), probes) for one in found)

    def listening(self) -> tuple[tuple[str, int], ...]:
        """By /proc/net/tcp of each server's pod; an image without `cat` is taken at its node's word, which asks for readiness."""
        serving = self._pods()
        pods = {pod["metadata"]["name"]: pod for one in self._workloads if one.ports for pod in serving[one.path]}
        pods |= {pod["metadata"]["name"]: pod for pod in self._probes()}
        with ThreadPoolExecutor(POOL) as pool:
            found = pool.map(self._listens, pods.values())
            return tuple(sorted((name, port) for name, ports in zip(pods, found, strict=True) for port in ports))

    def end(self) -> None:
        """Wherever they are."""
        for one in self._probes():
            self._api.delete(f"/api/v1/namespaces/{one['metadata']['namespace']}/pods/{one['metadata']['name']}")

    def left(self) -> str:
        """By their label."""
        return ", ".join(f"pod {one['metadata']['namespace']}/{one['metadata']['name']}" for one in self._probes())

    def _probes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api.get(_PROBES)["items"]
        return found

    def _pods(self) -> dict[str, list[dict[str, Any]]]:
        """Those that run, by the path of their workload; no probes."""
        running = {
            place: [
                pod for pod in self._api.get(f"/api/v1/namespaces/{place}/pods")["items"]
                if LABEL not in pod["metadata"].get("labels", {})
                and pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
            ]
            for place in sorted({one.namespace for one in self._workloads})
        }  # fmt: skip
        return {
            one.path: [pod for pod in running[one.namespace] if has(pod["metadata"].get("labels", {}), one.labels)]
            for one in self._workloads
        }

    def _servers(self, probes: Sequence[dict[str, Any]]) -> Iterator[_Server]:
        own, serving = {_role(probe): probe for probe in probes}, self._pods()
        for one in self._workloads:
            if one.ports:
                for pod in serving[one.path] or [own[one.path]]:
                    for port in sorted(set(one.ports.values())):
                        yield _Server(one.path, pod["metadata"]["name"], pod["status"]["podIP"], port)

    def _beyond(self, probes: Sequence[Mapping[str, Any]]) -> Iterator[_Server]:
        yield _Server(ways.DNS, "kubernetes.default", "kubernetes.default.svc.cluster.local.", 53)
        service = self._api.get("/api/v1/namespaces/default/services/kubernetes")["spec"]
        yield _Server(ways.API_SERVER, "service", service["clusterIP"], service["ports"][0]["port"])
        yield _Server(ways.METADATA, _METADATA, _METADATA, 80)
        for node in self._api.get("/api/v1/nodes")["items"]:
            address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
            yield _Server(ways.NODE, node["metadata"]["name"], address, _KUBELET, node["metadata"]["name"])
        stranger = next(probe for probe in probes if _role(probe) == ways.STRANGER)
        yield _Server(ways.ELSEWHERE, stranger["metadata"]["name"], stranger["status"]["podIP"], _PORT)

    def _asked(self, probe: Mapping[str, Any], servers: Sequence[_Server]) -> list[Try]:
        # A pod reaches itself and its own node whatever policies say; who has no policy shows that somebody listens there.
        own = {probe["metadata"]["name"]} | (set() if _role(probe) == ways.STRANGER else {probe["spec"]["nodeName"]})
        mine = [one for one in servers if not own & {one.at, one.node}]
        script = ["python", "-I", "-c", _ASK, json.dumps([(one.address, one.port) for one in mine])]
        place, name = probe["metadata"]["namespace"], probe["metadata"]["name"]
        ended = self._api.run(place, name, _CONTAINER, script, within_s=ASKED_WITHIN_S)
        if ended.code != 0:
            raise StepFailed(f"probe {place}/{name} could not ask (status {ended.code}): {ended.output.strip()[-300:]}")
        answers = json.loads(ended.output)
        return [Try(_role(probe), one.to, one.at, one.port, answer) for one, answer in zip(mine, answers, strict=True)]

    def _listens(self, pod: Mapping[str, Any]) -> frozenset[int]:
        container = pod["spec"]["containers"][0]["name"]
        try:
            ended = self._api.run(
                pod["metadata"]["namespace"], pod["metadata"]["name"], container, ["cat", "/proc/net/tcp", "/proc/net/tcp6"]
            )
        except StepFailed:
            return answering(pod)
        return listeners(ended.output) or answering(pod)


def listeners(table: str) -> frozenset[int]:
    """The ports of a kernel's table at which somebody listens to others than its own host."""
    rows = [line.split() for line in table.splitlines()]
    local = [row[1].split(":") for row in rows if len(row) > 3 and row[3] == _LISTENS]
    return frozenset(int(port, 16) for address, port in local if address not in _LOOPBACK)


def answering(pod: Mapping[str, Any]) -> frozenset[int]:
    """The ports at which a pod's node asks its containers whether they are ready, of those that are."""
    ready = {one["name"] for one in pod["status"].get("containerStatuses", ()) if one.get("ready")}
    found = set()
    for container in pod["spec"]["containers"]:
        asked = container.get("readinessProbe", {})
        port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
        named = {one.get("name"): one["containerPort"] for one in container.get("ports", ())}
        if port is not None and container["name"] in ready:
            found.add(int(named.get(port, port)))
    return frozenset(found)


def _workload_probe(workload: Workload, image: str, ports: Sequence[int]) -> dict[str, Any]:
    clothes = {name: value for name, value in workload.labels.items() if name.startswith(_CLOTHES)}
    account = workload.pod.get("serviceAccountName", "default")
    return _pod(workload.namespace, workload.name, clothes, account, image, ports)


def _guest_probe(place: str, image: str) -> dict[str, Any]:
    return _pod(place, ways.GUEST, {}, "default", image, [_PORT])


def _pod(  # noqa: PLR0913, PLR0917 - all that differs
    place: str, name: str, clothes: Mapping[str, str], account: str, image: str, ports: Sequence[int]
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{LABEL}-{name}", "namespace": place, "labels": {**clothes, LABEL: name}},
        "spec": {
            "activeDeadlineSeconds": _LIVES_S,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # A condition that nobody ever sets.
            "readinessGates": [{"conditionType": LABEL}],
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "serviceAccountName": account,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": _CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-I", "-c", _LISTEN, *map(str, ports)],
                    "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }  # fmt: skip


def _role(probe: Mapping[str, Any]) -> str:
    return f"{probe['metadata']['namespace']}/{probe['metadata']['labels'][LABEL]}"


def _why(probe: Mapping[str, Any]) -> str:
    status = probe["status"]
    waiting = [one.get("state", {}).get("waiting", {}).get("reason") for one in status.get("containerStatuses", ())]
    told = [one.get("message") for one in status.get("conditions", ()) if one.get("status") == "False" and one.get("message")]
    return f"is {status.get('phase', 'not scheduled')} ({', '.join(filter(None, [*waiting, *told])) or 'no reason given'})"
