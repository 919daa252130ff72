"""Nodes of a cluster: which pods they carry, and how one is lost and brought back.

Power, cable and kubelet are out of reach of any API, so those who own the machines say by which commands they are switched. A
drain is asked of the API server: no new pods, then an eviction for each that is there, which disruption budgets may put off.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sre.clock import Clock
from sre.errors import CannotRun, StepFailed, UsageError
from sre.readings import Node
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.slots import Slot

Commands = Mapping[str, tuple[str | None, str | None]]

NO_COMMANDS: Commands = dict.fromkeys(("power-off", "cut", "kubelet"), (None, None))
DRAIN = "drain"
COMMAND_WITHIN_S = 50.0
# An experiment may take a minute in all.
EVICTED_WITHIN_S = 45.0
_NODES = "/api/v1/nodes"
_ZONE = "topology.kubernetes.io/zone"
_MIRROR = "kubernetes.io/config.mirror"
TOO_MANY = 429


class KubernetesNodes:
    """See `targets.base.Nodes`.

    Args:
        api: of the cluster.
        clock: that waits use.
        commands: for each way of losing a node but a drain, what does it and what takes it back, with {node}; None where the
            settings name none.
        slots: the serving replicas just now.
    """

    def __init__(self, api: Api, clock: Clock, commands: Commands, slots: Callable[[], Sequence[Slot]]) -> None:
        self._api, self._clock, self._commands, self._slots = api, clock, commands, slots

    def all(self) -> tuple[Node, ...]:
        """All nodes, by name."""
        replicas = {slot.pod: slot.name for slot in self._slots() if slot.pod}
        pods = self._api.get("/api/v1/pods")["items"]
        nodes = sorted(self._api.get(_NODES)["items"], key=lambda one: str(one["metadata"]["name"]))
        return tuple(reading(node, pods, replicas) for node in nodes)

    def check(self, how: str) -> None:
        """Whether the settings name both commands."""
        if how != DRAIN and not all(self._commands[how]):
            name = f"SRE_NODE_{how.upper().replace('-', '_')}"
            raise CannotRun(f"nothing is known that can {how} a node and take it back; set {name} and {name}_UNDO to commands")

    def lose(self, node: str, how: str) -> None:
        """Run the command, or drain it."""
        self._known(node)
        self.check(how)
        if how != DRAIN:
            _run(str(self._commands[how][0]), node)
            return
        self._set_unschedulable(node, closed=True)
        self._evict(node)

    def bring_back(self, node: str, how: str) -> None:
        """Run the other command, or let it take pods again."""
        self._known(node)
        self.check(how)
        if how == DRAIN:
            self._set_unschedulable(node, closed=False)
        else:
            _run(str(self._commands[how][1]), node)

    def _known(self, node: str) -> None:
        names = [one["metadata"]["name"] for one in self._api.get(_NODES)["items"]]
        if node not in names:
            raise UsageError(f"node {node!r} does not exist; there are {', '.join(sorted(names)) or 'none'}")

    def _set_unschedulable(self, node: str, *, closed: bool) -> None:
        self._api.patch(f"{_NODES}/{node}", {"spec": {"unschedulable": closed}})

    def _evict(self, node: str) -> None:
        deadline = self._clock.now() + EVICTED_WITHIN_S
        listed = self._api.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")["items"]
        waiting = [pod["metadata"] for pod in listed if goes(pod)]
        while waiting:
            waiting = [pod for pod in waiting if evict(self._api, pod["namespace"], pod["name"]) == TOO_MANY]
            if waiting and self._clock.now() > deadline:
                held = ", ".join(f"{pod['namespace']}/{pod['name']}" for pod in waiting)
                raise StepFailed(f"{node} is not drained within {EVICTED_WITHIN_S:.0f} s; disruption budgets hold {held}")
            self._clock.sleep(1.0 if waiting else 0.0)


def evict(api: Api, namespace: str, pod: str) -> int:
    """Ask for a pod's eviction; the status, `TOO_MANY` while a disruption budget holds it."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    return api.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", body)


def reading(node: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], replicas: Mapping[str, str]) -> Node:
    """A node as drills see it.

    Args:
        node: as the API gives it.
        pods: of all nodes and namespaces.
        replicas: names of serving replicas by their pods.
    """
    name = node["metadata"]["name"]
    here = [pod["metadata"] for pod in pods if pod["spec"].get("nodeName") == name and goes(pod)]
    others = sorted(f"{pod['namespace']}/{pod['name']}" for pod in here if pod["name"] not in replicas)
    carried = tuple(sorted(replicas[pod["name"]] for pod in here if pod["name"] in replicas))
    zone = (node["metadata"].get("labels") or {}).get(_ZONE, "")
    return Node(name, ready(node), not node["spec"].get("unschedulable", False), carried, tuple(others), zone)


def ready(node: Mapping[str, Any]) -> bool:
    """Whether a node's agent reports that it is."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", ()))


def goes(pod: Mapping[str, Any]) -> bool:
    """Whether a pod runs and may leave its node: those of the node itself, its daemons' and its own, stay."""
    owners = [owner["kind"] for owner in pod["metadata"].get("ownerReferences", ())]
    own = "DaemonSet" in owners or _MIRROR in pod["metadata"].get("annotations", {})
    return not own and "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Pending", "Running")


def _run(template: str, node: str) -> None:
    command = [word.replace("{node}", node) for word in shlex.split(template)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailed(f"{shlex.join(command)} cannot be run: {error}") from error
    if done.returncode:
        raise StepFailed(f"{shlex.join(command)} exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
