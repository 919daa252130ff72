"""Whom a kill hits, when, and how far the backup had come by then, told from the disk."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sre.dr import sets
from sre.dr.sets import Place

Victim = Literal["command", "tree", "store"]
VICTIMS: tuple[Victim, ...] = ("command", "tree", "store")
# In the order in which a backup goes through them.
PHASES = (
    "starting", "database here", "database off site", "marker, WAL, objects", "copy off site", "check here", "check off site",
    "ending",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kill:
    """One planned kill.

    Attributes:
        seed: of it.
        victim: `command`: the process of `sre backup create` alone; `tree`: it and all that it began; `store`: whoever writes the
            store. This target's store is a folder and has no process of its own; its writers are pgBackRest, the archiver's
            included, and where none runs at the moment, the command, as the vault's copier.
        kind: of the backup that is killed, and of the one after it.
    """

    seed: int
    victim: Victim
    kind: Literal["full", "diff"]

    def shares(self) -> Iterator[float]:
        """Moments as shares of a backup's length, uniform; one after the other until the command still ran then."""
        chance = random.Random(f"moment {self.seed}")
        while True:
            yield chance.random()


def planned(seed: int) -> Kill:
    """What a seed stands for: victims take turns, kinds are drawn."""
    return Kill(seed, VICTIMS[seed % len(VICTIMS)], random.Random(f"kind {seed}").choice(("full", "diff")))


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies in both places at one moment.

    Attributes:
        holder: what the vault's lock says.
        labels: of the finished database backups, by place.
        sets: ids, by place.
        good: ids of those that a check found good, by place.
    """

    holder: str
    labels: dict[Place, frozenset[str]]
    sets: dict[Place, frozenset[str]]
    good: dict[Place, frozenset[str]]


def look(home: Path) -> Seen:
    """Read the places of a home. Raises AssertionError when a file of a set or a check cannot be read."""
    labels, found, good = dict[Place, frozenset[str]](), dict[Place, frozenset[str]](), dict[Place, frozenset[str]]()
    lock = sets.places(home)["store"] / ".lock"
    for place, root in sets.places(home).items():
        listing = sets.listing(root)
        assert not listing.damaged, listing.damaged
        # pgBackRest gives a backup its manifest when every file of it is there.
        labels[place] = frozenset(path.parent.name for path in root.glob("pgbackrest/backup/*/*/backup.manifest"))
        found[place] = frozenset(listing.sets)
        good[place] = frozenset(name for name in listing.sets if listing.health(name) == "good")
    return Seen(lock.read_text(encoding="utf-8") if lock.exists() else "", labels, found, good)


def phase(before: Seen, after: Seen, pid: int) -> str:
    """How far a backup had come.

    Args:
        before: when it began.
        after: when it was hit.
        pid: of the command.
    """
    places: tuple[Place, ...] = ("store", "off_site")
    passed = [after.holder.endswith(f" {pid}")]
    passed += [after.labels[place] > before.labels[place] for place in places]
    passed += [after.sets[place] > before.sets[place] for place in places]
    passed += [after.good[place] > before.good[place] for place in places]
    return PHASES[passed.index(False)] if not all(passed) else PHASES[-1]
