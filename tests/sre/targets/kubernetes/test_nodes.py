"""Nodes over plain API objects, and a drain of the real cluster where there is one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sre.clock import SystemClock
from sre.errors import CannotRun, StepFailed, UsageError
from sre.readings import Node
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.nodes import NO_COMMANDS, KubernetesNodes, evict, goes, reading
from sre.targets.kubernetes.slots import Slot
from sre.targets.simulation import VirtualClock
from tests.cluster import Cluster
from tests.sre.targets.kubernetes.conftest import Served

_MERGE = "application/strategic-merge-patch+json"
ON_NODE_2 = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode2"


def _node(name: str = "node2", *, ready: str = "True", closed: bool = False) -> dict[str, Any]:
    spec = {"unschedulable": True} if closed else {}
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def _pod(name: str, node: str = "node2", *, owner: str = "ReplicaSet", phase: str = "Running", **meta: Any) -> dict[str, Any]:
    owners = {"ownerReferences": [{"kind": owner}]} if owner else {}
    metadata = {"name": name, "namespace": "ml-system", **owners, **meta}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}


def test_a_node_carries_what_may_leave_it() -> None:
    pods = [
        _pod("b"),
        _pod("a"),
        _pod("elsewhere", "node1"),
        _pod("agent", owner="DaemonSet"),
        _pod("static", owner="Node", annotations={"kubernetes.io/config.mirror": "x"}),
        _pod("done", phase="Succeeded"),
        _pod("leaving", deletionTimestamp="2026-11-29T00:00:00Z"),
        _pod("bare", owner=""),
    ]
    replicas = {"b": "serving-2", "elsewhere": "serving-1"}
    assert reading(_node(), pods, replicas) == Node("node2", True, True, ("serving-2",), ("ml-system/a", "ml-system/bare"))


def test_a_node_says_in_which_zone_it_is() -> None:
    labelled = _node() | {"metadata": {"name": "node2", "labels": {"topology.kubernetes.io/zone": "eu-1a"}}}
    assert reading(labelled, [], {}).zone == "eu-1a"
    assert not reading(_node(), [], {}).zone


@pytest.mark.parametrize(("ready", "closed"), [("False", False), ("Unknown", True), ("True", True)])
def test_a_node_is_ready_when_its_agent_says_so_and_open_unless_it_is_cordoned(ready: str, closed: bool) -> None:  # noqa: FBT001
    seen = reading(_node(ready=ready, closed=closed), [], {})
    assert (seen.ready, seen.open) == (ready == "True", not closed)


def test_a_node_that_has_never_reported_is_not_ready() -> None:
    assert not reading({"metadata": {"name": "new"}, "spec": {}, "status": {}}, [], {}).ready


def _nodes(
    api: Api, clock: VirtualClock | SystemClock, commands: Any = NO_COMMANDS, slots: Sequence[Slot] = ()
) -> KubernetesNodes:
    return KubernetesNodes(api, clock, commands, lambda: slots)


def test_nodes_come_by_name_with_the_replicas_that_are_on_them(api: Api, served: Served) -> None:
    served.objects["/api/v1/nodes"] = {"items": [_node(), _node("node1")]}
    served.objects["/api/v1/pods"] = {"items": [_pod("a"), _pod("b", "node1")]}
    slots = [Slot("serving-1", "a", "1@a", 0), Slot("serving-2", "", "", 0)]
    assert _nodes(api, SystemClock(), slots=slots).all() == (
        Node("node1", True, True, (), ("ml-system/b",)),
        Node("node2", True, True, ("serving-1",), ()),
    )


def _writing(file: Path, word: str, status: int = 0) -> str:
    script = f"import sys; print({word!r}, sys.argv[1], file=open({str(file)!r}, 'a')); sys.exit('it burns' if {status} else 0)"
    return shlex.join([sys.executable, "-c", script, "{node}"])


def test_power_goes_off_and_on_by_the_commands_of_the_settings(api: Api, served: Served, tmp_path: Path) -> None:
    served.objects["/api/v1/nodes"] = {"items": [_node()]}
    file = tmp_path / "said"
    nodes = _nodes(api, SystemClock(), {**NO_COMMANDS, "power-off": (_writing(file, "off"), _writing(file, "on"))})
    nodes.check("power-off")
    nodes.lose("node2", "power-off")
    nodes.bring_back("node2", "power-off")
    assert file.read_text().split() == ["off", "node2", "on", "node2"]
    with pytest.raises(CannotRun, match="can cut a node and take it back; set SRE_NODE_CUT and SRE_NODE_CUT_UNDO to commands"):
        nodes.check("cut")
    nodes.check("drain")
    with pytest.raises(UsageError, match="node 'node9' does not exist; there are node2"):
        nodes.lose("node9", "power-off")
    assert file.read_text().split() == ["off", "node2", "on", "node2"]


def test_a_way_that_cannot_be_taken_back_is_none(api: Api, tmp_path: Path) -> None:
    nodes = _nodes(api, SystemClock(), {**NO_COMMANDS, "power-off": (_writing(tmp_path / "said", "off"), None)})
    with pytest.raises(CannotRun, match="SRE_NODE_POWER_OFF_UNDO"):
        nodes.check("power-off")


@pytest.mark.parametrize("command", ["fails", "is missing"])
def test_a_command_that_fails_is_told_with_its_words(api: Api, served: Served, tmp_path: Path, command: str) -> None:
    served.objects["/api/v1/nodes"] = {"items": [_node()]}
    text = _writing(tmp_path / "said", "off", 1) if command == "fails" else "/nowhere/at-all {node}"
    nodes = _nodes(api, SystemClock(), {**NO_COMMANDS, "cut": (text, "true")})
    with pytest.raises(
        StepFailed, match="exited with 1: it burns" if command == "fails" else "/nowhere/at-all node2 cannot be run"
    ):
        nodes.lose("node2", "cut")


def test_a_drain_closes_the_node_then_evicts_what_may_leave(api: Api, served: Served) -> None:
    served.objects |= {"/api/v1/nodes": {"items": [_node()]}, "/api/v1/nodes/node2": {}}
    served.objects[ON_NODE_2] = {"items": [_pod("a"), _pod("agent", owner="DaemonSet"), _pod("b")]}
    # A budget puts one off, and the other has left by itself meanwhile.
    served.objects["/api/v1/namespaces/ml-system/pods/a/eviction"] = [429, 429, {}]
    clock = VirtualClock()
    began = clock.now()
    nodes = _nodes(api, clock)
    nodes.lose("node2", "drain")
    assert clock.now() - began == 2.0
    assert served.changes == [
        ("PATCH", "/api/v1/nodes/node2", _MERGE, {"spec": {"unschedulable": True}}),
        *[("POST", "/api/v1/namespaces/ml-system/pods/a/eviction", "application/json", _eviction("a"))],
        *[("POST", "/api/v1/namespaces/ml-system/pods/b/eviction", "application/json", _eviction("b"))],
        *[("POST", "/api/v1/namespaces/ml-system/pods/a/eviction", "application/json", _eviction("a"))] * 2,
    ]
    nodes.bring_back("node2", "drain")
    assert served.changes[-1] == ("PATCH", "/api/v1/nodes/node2", _MERGE, {"spec": {"unschedulable": False}})


def _eviction(pod: str) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "ml-system"}}


def test_a_drain_that_a_budget_holds_up_says_which_pods(api: Api, served: Served) -> None:
    served.objects |= {"/api/v1/nodes": {"items": [_node()]}, "/api/v1/nodes/node2": {}, ON_NODE_2: {"items": [_pod("a")]}}
    served.objects["/api/v1/namespaces/ml-system/pods/a/eviction"] = 429
    with pytest.raises(StepFailed, match="node2 is not drained within 45 s; disruption budgets hold ml-system/a"):
        _nodes(api, VirtualClock()).lose("node2", "drain")


@pytest.mark.parametrize(("kind", "leaves"), [("ReplicaSet", True), ("StatefulSet", True), ("Job", True), ("DaemonSet", False)])
def test_daemons_stay(kind: str, leaves: bool) -> None:  # noqa: FBT001
    assert goes(_pod("a", owner=kind)) is leaves


@pytest.mark.cluster
def test_a_real_node_is_drained_and_opened_again(cluster: Cluster, stand_in: str, tmp_path: Path) -> None:
    api = Api(str(cluster.kubeconfig), None)
    nodes = KubernetesNodes(api, SystemClock(), NO_COMMANDS, lambda: ())
    found = api.get(f"/api/v1/namespaces/{stand_in}/pods")["items"]
    name = found[0]["spec"]["nodeName"]
    # Whatever else is on it would have to begin elsewhere for this test: only the stand-ins leave.
    kept = [pod for pod in found if pod["spec"]["nodeName"] == name]
    cluster.run("cordon", name)
    try:
        assert not next(node for node in nodes.all() if node.name == name).open
        for pod in kept:
            assert evict(api, stand_in, pod["metadata"]["name"]) == 201
    finally:
        nodes.bring_back(name, "drain")
    assert next(node for node in nodes.all() if node.name == name).open
    for pod in kept:
        cluster.run("wait", "--for=delete", f"pod/{pod['metadata']['name']}", "-n", stand_in, "--timeout=60s")
    cluster.run("rollout", "status", "deployment", "ml-api", "-n", stand_in, "--timeout=60s")
