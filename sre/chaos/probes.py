"""Probes for the steady-state hypotheses of `experiments/*.json`."""

from __future__ import annotations

from sre.chaos.attach import current

__all__ = ["replicas_not_ready"]


def replicas_not_ready() -> int:
    """How many replicas do not answer their readiness check right now; -1 when there is no replica at all."""
    target, _ = current()
    replicas = target.replicas()
    return sum(not replica.ready for replica in replicas) if replicas else -1
