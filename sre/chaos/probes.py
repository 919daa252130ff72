"""Probes for the steady-state hypotheses of `experiments/*.json`."""

from __future__ import annotations

from sre.chaos.attach import current
from sre.faults.database import trouble

__all__ = ["database_trouble", "replicas_not_ready"]


def database_trouble() -> str:
    """What keeps the database cluster from being whole; empty when it is."""
    target, _ = current()
    return trouble(target.database)


def replicas_not_ready() -> int:
    """How many replicas do not answer their readiness check right now; -1 when there is no replica at all."""
    target, _ = current()
    # The first look of a process makes the connections that it asks over, which may take longer than a replica is waited for.
    target.replicas()
    replicas = target.replicas()
    return sum(not replica.ready for replica in replicas) if replicas else -1
