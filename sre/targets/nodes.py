"""The nodes of the memory target: one for each of its replicas, which begin elsewhere when theirs is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sre.errors import UsageError
from sre.readings import Node
from sre.targets.simulation import SimulatedReplica, VirtualClock


class NodeBehaviour(Protocol):
    """How simulated nodes behave; see `memory.Behaviour`."""

    faults_work: bool
    restart_s: float
    startup_s: float
    node_noticed_s: float
    node_carries: tuple[str, ...]
    zones: tuple[str, ...]


class MemoryNodes:
    """See `targets.base.Nodes`. Every way of losing a node is the same here, but for a drain, which is noticed at once."""

    def __init__(self, clock: VirtualClock, behaviour: NodeBehaviour, replicas: Sequence[SimulatedReplica]) -> None:
        self._clock, self._behaviour, self._replicas = clock, behaviour, replicas
        self._names = tuple(f"node-{number}" for number, _ in enumerate(replicas, start=1))
        self._where = dict(zip((replica.name for replica in replicas), self._names, strict=True))
        # How each was lost, and from when on the control plane knows.
        self._lost: dict[str, tuple[str, float]] = {}

    def all(self) -> tuple[Node, ...]:
        """All nodes, by name."""
        return tuple(self._node(name) for name in self._names)

    def check(self, how: str) -> None:
        """Every way will do."""

    def lose(self, node: str, how: str) -> None:
        """Its replicas begin on another node, at once or when its loss is noticed."""
        self._known(node)
        if not self._behaviour.faults_work:
            return
        now = self._clock.now()
        noticed = now if how == "drain" else now + self._behaviour.node_noticed_s
        self._lost[node] = how, noticed
        left = [name for name in self._names if name not in self._lost]
        for replica in self._replicas:
            if self._where[replica.name] == node:
                born = noticed + self._behaviour.restart_s
                replica.replace(now, born, born + self._behaviour.startup_s)
                self._where[replica.name] = left[0] if left else node

    def bring_back(self, node: str, how: str) -> None:
        """It may carry replicas again; those that left stay where they are."""
        del how
        self._known(node)
        self._lost.pop(node, None)

    def _node(self, name: str) -> Node:
        how, noticed = self._lost.get(name, ("", 0.0))
        gone = bool(how) and self._clock.now() >= noticed
        replicas = tuple(replica for replica, where in self._where.items() if where == name)
        others = self._behaviour.node_carries if name == self._names[0] else ()
        zone = self._behaviour.zones[self._names.index(name) % len(self._behaviour.zones)] if self._behaviour.zones else ""
        return Node(name, ready=not gone or how == "drain", open=not gone, replicas=replicas, others=others, zone=zone)

    def _known(self, node: str) -> None:
        if node not in self._names:
            raise UsageError(f"node {node!r} does not exist; there are {', '.join(self._names) or 'none'}")
