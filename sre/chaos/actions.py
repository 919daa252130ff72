"""Actions for `experiments/*.json`. Each writes its undo to the ledger first and returns what it did."""

from __future__ import annotations

from sre.chaos.attach import current
from sre.faults.base import Fault
from sre.faults.process import KillReplica, PauseReplica

__all__ = ["kill_replica", "pause_replica", "undo_all"]


def kill_replica(replica: str) -> dict[str, str | float]:
    """SIGKILL a serving replica, for example `serving-2`."""
    target, _ = current()
    return _inject(KillReplica(target, replica))


def pause_replica(replica: str) -> dict[str, str | float]:
    """Freeze a serving replica: it accepts connections and answers nothing."""
    target, _ = current()
    return _inject(PauseReplica(target, replica))


def undo_all() -> list[str]:
    """Take back everything that the ledger still holds."""
    target, ledger = current()
    return ledger.replay(target)


def _inject(fault: Fault) -> dict[str, str | float]:
    target, ledger = current()
    ledger.plan(fault.undo)
    at = target.clock.now()
    fault.inject()
    return {"fault": fault.name, "at": at, "undo": fault.undo.sentence}
