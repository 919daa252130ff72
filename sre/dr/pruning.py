"""What a place no longer needs: sets that retention lets go, then database backups and objects that no kept set names.

A removal happens in this order, so that a crash in between leaves more than is needed and never less: the sets' files, the
database backups outside `Pruning.labels`, the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sre.dr import retention, sets, vault
from sre.dr.backup_plan import Plan
from sre.dr.retention import Policy
from sre.dr.sets import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What is to be kept and what is to go.

    Attributes:
        kept: reasons by id of the set, oldest first.
        dropped: ids of sets, oldest first.
        labels: of the database backups that the kept sets need; every other one of the place may be expired.
        objects: files that no kept set names, old enough to go.
        needed: SHA-256 of every object that a kept set names.
    """

    kept: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...]
    labels: frozenset[str]
    objects: tuple[Path, ...]
    needed: frozenset[str]


def plan_for(root: Path, place: Place, plan: Plan, now: float) -> Pruning:
    """Look what is to go; nothing is changed.

    Args:
        root: of the place.
        place: its name.
        plan: the backup plan.
        now: wall clock, s.

    Raises:
        EvidenceDamaged: a set cannot be read, so nobody knows what it needs; `sets.repair` brings it back.
    """
    found = sets.listing(root)
    found.needed()
    states = found.states(place)
    kept = retention.keep(states, datetime.fromtimestamp(now, UTC), Policy.of(plan))
    needed = frozenset(ref.sha256 for name in kept for ref in found.sets[name].objects.values())
    return Pruning(
        kept=kept,
        dropped=tuple(name for name in found.sets if name not in kept),
        labels=retention.labels(states, kept) - {""},
        objects=tuple(vault.unneeded(root, needed, now, _older_than_s(plan))),
        needed=needed,
    )


def drop_sets(root: Path, pruning: Pruning) -> None:
    """Delete the files of the sets that go. The caller holds the vault since before `plan_for`."""
    for name in pruning.dropped:
        sets.remove(root, name)


def drop_objects(root: Path, pruning: Pruning, plan: Plan, now: float) -> tuple[int, int]:
    """Delete the objects that go, unless a set that was written meanwhile names them; files and bytes."""
    needed = pruning.needed | sets.listing(root).needed()
    return vault.remove(pruning.objects, needed, now, _older_than_s(plan))


def _older_than_s(plan: Plan) -> float:
    # What was needed a moment ago may be needed again by somebody who sees a mistake.
    return plan.buckets["ml-backups"].expire_after or float("inf")
