"""Probes as they are asked for; and on the real cluster, where there is one, what they are answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sre.clock import Clock
from sre.errors import CannotRun, StepFailed
from sre.judges.manifests import ways
from sre.judges.manifests.objects import Manifests, parsed
from sre.judges.network import Comparison, compare
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.network import LABEL, KubernetesNetwork, answering, listeners
from sre.targets.kubernetes.target import KubernetesTarget
from tests.cluster import Cluster
from tests.manifests import overlays, schemas
from tests.sre.targets.kubernetes.conftest import Served

_SETTLED_WITHIN_S = 120
PROBES = f"/api/v1/pods?labelSelector={LABEL}"
IMAGE = "registry/api:1"


def network(api: Api, made: Manifests | None = None) -> KubernetesNetwork:
    return KubernetesNetwork(api, lambda: made or overlays.manifests("prod"), lambda: IMAGE)


@pytest.fixture
def system(served: Served) -> Served:
    """Namespaces, and a pod of PostgreSQL as all that runs."""
    places = ("ml-system", "data", "monitoring", "default", "projectcontour")
    served.objects["/api/v1/namespaces"] = {"items": [{"metadata": {"name": place}} for place in places]}
    for place in places:
        served.objects[f"/api/v1/namespaces/{place}/pods"] = {"items": []}
    made = overlays.manifests("prod")
    postgres = next(one for one in made.workloads if one.path == "data/postgres")
    pod = {"metadata": {"name": "postgres-0", "labels": dict(postgres.labels)}, "status": {"phase": "Running"}}
    served.objects["/api/v1/namespaces/data/pods"] = {"items": [pod]}
    return served


def posted(served: Served) -> dict[str, Any]:
    found = {}
    for method, path, _, pod in served.changes:
        assert (method, path) == ("POST", f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods")
        found[f"{pod['metadata']['namespace']}/{pod['metadata']['labels'][LABEL]}"] = pod
    return found


def test_every_workload_and_guest_gets_a_probe_in_its_clothes(system: Served, api: Api) -> None:
    roles = network(api).begin()
    pods = posted(system)
    made = overlays.manifests("prod")
    assert set(roles) == pods.keys() == {one.path for one in made.workloads} | {"projectcontour/guest", ways.STRANGER}
    for one in made.workloads:
        labels = pods[one.path]["metadata"]["labels"]
        assert labels.pop(LABEL) == one.name
        assert labels == {key: value for key, value in one.labels.items() if key.startswith("app.kubernetes.io/")}
        assert pods[one.path]["spec"]["serviceAccountName"] == one.pod["serviceAccountName"]


def test_policies_read_no_label_that_no_probe_wears() -> None:
    def keys(thing: Any) -> set[str]:
        if isinstance(thing, dict):
            own = set(thing.get("matchLabels", {})) | {one["key"] for one in thing.get("matchExpressions", ())}
            return own.union(*map(keys, thing.values()))
        return set().union(*map(keys, thing)) if isinstance(thing, list) else set()

    read = {key for policy in overlays.manifests("prod").of("NetworkPolicy") for key in keys(policy["spec"])}
    assert all(key.startswith("app.kubernetes.io/") or key == "kubernetes.io/metadata.name" for key in read)


def test_a_probe_is_never_ready_has_no_rights_and_is_valid(system: Served, api: Api) -> None:
    network(api).begin()
    pods = posted(system)
    assert schemas.findings(parsed(pods.values())) == []
    for pod in pods.values():
        assert pod["spec"]["readinessGates"]
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["activeDeadlineSeconds"] <= 900
        assert "track" not in pod["metadata"]["labels"]
        (container,) = pod["spec"]["containers"]
        assert (container["image"], container["imagePullPolicy"]) == (IMAGE, "IfNotPresent")


def test_a_server_that_does_not_run_is_played_by_its_probe(system: Served, api: Api) -> None:
    network(api).begin()
    ports = {role: pod["spec"]["containers"][0]["command"][4:] for role, pod in posted(system).items()}
    assert ports["data/postgres"] == []
    assert ports["ml-system/ml-api-canary"] == ["5000"]
    assert ports[ways.STRANGER] == ["8080"]


def test_a_namespace_that_is_not_there_is_no_place_for_a_probe(system: Served, api: Api) -> None:
    system.objects["/api/v1/namespaces/default/pods"] = 404
    with pytest.raises(CannotRun, match="namespace default is not there"):
        network(api).begin()


def probe(phase: str, **status: Any) -> dict[str, Any]:
    meta = {"name": f"{LABEL}-minio", "namespace": "data", "labels": {LABEL: "minio"}}
    return {"metadata": meta, "spec": {"nodeName": "node1"}, "status": {"phase": phase, **status}}


def test_it_waits_for_every_probe_and_says_why_one_does_not_run(served: Served, api: Api) -> None:
    pulling = [{"state": {"waiting": {"reason": "ErrImagePull"}}}]
    served.objects[PROBES] = [{"items": [probe("Pending", containerStatuses=pulling)]}, {"items": [probe("Running")]}]
    assert network(api).waiting() == f"data/{LABEL}-minio is Pending (ErrImagePull)"
    assert network(api).waiting() == ""


def test_the_end_deletes_whatever_wears_the_label(served: Served, api: Api) -> None:
    served.objects[PROBES] = [{"items": [probe("Running")]}, {"items": [probe("Running")]}, {"items": []}]
    assert network(api).left() == f"pod data/{LABEL}-minio"
    network(api).end()
    assert [change[:2] for change in served.changes] == [("DELETE", f"/api/v1/namespaces/data/pods/{LABEL}-minio")]
    assert network(api).left() == ""


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   2: 0A00000A:1F48 0B00000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1
   0: 00000000000000000000000000000000:2382 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1 1
   1: 00000000000000000000000001000000:2383 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1 1
cat: /proc/net/tcp6: No such file or directory
"""


def test_only_who_listens_to_others_counts() -> None:
    assert listeners(TABLE) == {5432, 9090}
    assert listeners("") == frozenset()


@pytest.mark.parametrize(
    ("asked", "ready", "ports"),
    [
        ({"httpGet": {"port": "https", "path": "/"}}, True, {9000}),
        ({"tcpSocket": {"port": 9001}}, True, {9001}),
        ({"httpGet": {"port": "https"}}, False, set()),
        ({"exec": {"command": ["true"]}}, True, set()),
        ({}, True, set()),
    ],
)
def test_a_node_that_asks_for_readiness_knows_that_somebody_answers(asked: dict[str, Any], ready: bool, ports: set[int]) -> None:  # noqa: FBT001
    container = {"name": "minio", "ports": [{"name": "https", "containerPort": 9000}], "readinessProbe": asked}
    status = {"containerStatuses": [{"name": "minio", "ready": ready}, {"name": "other", "ready": True}]}
    assert answering({"spec": {"containers": [container]}, "status": status}) == ports


def test_a_probe_that_cannot_ask_is_no_answer(served: Served, api: Api) -> None:
    stranger = {**probe("Running"), "metadata": {"name": f"{LABEL}-guest", "namespace": "default", "labels": {LABEL: "guest"}}}
    stranger["status"]["podIP"] = "10.0.0.9"
    served.objects[PROBES] = {"items": [stranger]}
    served.objects["/api/v1/namespaces/default/services/kubernetes"] = {
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 443}]}
    }
    served.objects["/api/v1/nodes"] = {"items": []}
    with pytest.raises(StepFailed, match="cannot be run in probe"):
        network(api).tries()


Probed = tuple[KubernetesNetwork, tuple[str, ...]]


@pytest.fixture
def probed(system_on_cluster: KubernetesTarget) -> Iterator[Probed]:
    """Probes that run beside the system, and whose clothes they wear."""
    network, clock = system_on_cluster.network, system_on_cluster.clock
    roles = network.begin()
    try:
        _until(clock, lambda: network.waiting() == "")
        yield network, roles
    finally:
        network.end()
        _until(clock, lambda: network.left() == "")


def _until(clock: Clock, condition: Callable[[], bool]) -> None:
    deadline = clock.now() + _SETTLED_WITHIN_S
    while not condition():
        assert clock.now() < deadline
        clock.sleep(2.0)


def _compared(probed: Probed) -> Comparison:
    network, roles = probed
    return compare(roles, network.tries(), network.listening(), ways.allowed(roles))


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_the_cluster_lets_through_what_is_listed_and_nothing_else(system_on_cluster: KubernetesTarget, probed: Probed) -> None:
    _until(system_on_cluster.clock, lambda: not _compared(probed).findings)
    found = _compared(probed)
    assert (found.findings, found.doubts) == ((), ())
    assert found.ways > 100
    assert all("169.254.169.254" in one for one in found.unproven)


_ALLOW_ALL = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "sabotage", "namespace": "data"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
}


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_policy_that_allows_all_is_found_and_so_is_one_that_is_gone(
    cluster: Cluster, system_on_cluster: KubernetesTarget, probed: Probed
) -> None:
    clock = system_on_cluster.clock
    try:
        cluster.run("apply", "-f", "-", text=json.dumps(_ALLOW_ALL))
        _until(clock, lambda: ("way-open", "default/guest") in {one[:2] for one in _compared(probed).findings})
    finally:
        cluster.run("delete", "networkpolicy", "sabotage", "-n", "data", "--ignore-not-found")
    migrate = next(
        one for one in overlays.fresh("dev") if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "migrate"
    )
    try:
        cluster.run("delete", "networkpolicy", "migrate", "-n", "ml-system")
        _until(clock, lambda: ("way-closed", "ml-system/migrate") in {one[:2] for one in _compared(probed).findings})
    finally:
        cluster.run("apply", "--server-side", "--field-manager=sre", "-f", "-", text=json.dumps(migrate))
    _until(clock, lambda: not _compared(probed).findings)
