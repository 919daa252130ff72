"""Probes for the steady-state hypotheses of `experiments/*.json`."""

from __future__ import annotations

from sre.chaos.attach import current
from sre.faults.database import trouble

__all__ = ["database_trouble", "replicas_not_ready"]

# As long as a replica may take to begin, and less than an experiment may.
STEADY_WITHIN_S = 30.0
LOOK_EVERY_S = 0.2


def database_trouble() -> str:
    """What keeps the database cluster from being whole; empty when it is."""
    target, _ = current()
    return trouble(target.database)


def replicas_not_ready() -> int:
    """How many replicas do not answer their readiness check at the end of the wait for all of them; -1 when there is none at all.

    Under load an autoscaler has a replica on its way now and then; and the first look of a process makes the connections that it
    asks over, which may take longer than a replica is waited for.
    """
    target, _ = current()
    deadline = target.clock.now() + STEADY_WITHIN_S
    while True:
        replicas = target.replicas()
        waiting = sum(not replica.ready for replica in replicas) if replicas else -1
        if not waiting or target.clock.now() > deadline:
            return waiting
        target.clock.sleep(LOOK_EVERY_S)
