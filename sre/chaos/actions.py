"""Actions for `experiments/*.json`. Each writes its undo to the ledger first and returns what it did."""

from __future__ import annotations

from sre.chaos.attach import current
from sre.errors import UsageError
from sre.faults.base import Fault
from sre.faults.database import named
from sre.faults.node import lost
from sre.faults.process import REMOVALS, KillReplicas, PauseReplicas, RemovePod, RollOut
from sre.targets.base import Removal, Target

__all__ = ["break_database", "kill_replica", "lose_node", "pause_replica", "remove_pod", "roll_replicas", "undo_all"]


def kill_replica(replica: str) -> dict[str, str | float]:
    """SIGKILL a serving replica, for example `serving-2`; several with commas between."""
    replicas = tuple(replica.split(","))
    return _inject(KillReplicas(_target_of(*replicas), replicas))


def pause_replica(replica: str) -> dict[str, str | float]:
    """Freeze a serving replica, or several with commas between: each accepts connections and answers nothing."""
    replicas = tuple(replica.split(","))
    return _inject(PauseReplicas(_target_of(*replicas), replicas))


def remove_pod(replica: str, how: Removal) -> dict[str, str | float]:
    """Take the pod of a serving replica away.

    Args:
        replica: for example `serving-2`.
        how: `delete` or `evict`.
    """
    if how not in REMOVALS:
        raise UsageError(f"a pod cannot be removed by {how!r}; there are {', '.join(REMOVALS)}")
    return _inject(RemovePod(_target_of(replica), replica, how))


def break_database(kind: str, member: str) -> dict[str, str | float]:
    """A fault of the database cluster.

    Args:
        kind: one of `sre.faults.database.KINDS`, for example `crash`.
        member: whom it hits, by name or as `primary` or `standby`; several with commas between.
    """
    target, _ = current()
    return _inject(named(target, kind, member))


def lose_node(how: str, node: str) -> dict[str, str | float]:
    """Lose a node of the cluster.

    Args:
        how: one of `sre.faults.node.KINDS`, for example `power-off`.
        node: its name.
    """
    target, _ = current()
    return _inject(lost(target, node, how))


def roll_replicas() -> dict[str, str | float]:
    """Replace every serving replica, one after another."""
    target, _ = current()
    return _inject(RollOut(target))


def undo_all() -> list[str]:
    """Take back everything that the ledger still holds."""
    target, ledger = current()
    return ledger.replay(target)


def _target_of(*replicas: str) -> Target:
    """The target that holds them. The undo of a replica that nobody knows could never succeed, so none may be planned."""
    target, _ = current()
    names = [item.name for item in target.replicas()]
    for replica in replicas:
        if replica not in names:
            raise UsageError(f"replica {replica!r} does not exist; there are {', '.join(names) or 'none'}")
    return target


def _inject(fault: Fault) -> dict[str, str | float]:
    target, ledger = current()
    ledger.plan(fault.undo)
    at = target.clock.now()
    fault.inject()
    return {"fault": fault.name, "at": at, "undo": fault.undo.sentence}
