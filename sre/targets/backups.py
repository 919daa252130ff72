"""What a drill may ask of whoever backs up whole namespaces of a cluster, and of the cluster as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sre.judges.manifests import objects
from sre.readings import Living

Object = Mapping[str, Any]
Say = Callable[[str], None]

# What a rebuild brings back: all of the system.
NAMESPACES = objects.NAMESPACES


class VolumeBackups(Protocol):
    """Backups of whole namespaces, objects and files, by Velero into a store outside the cluster.

    What it tells are objects as the API gives them. What asks for something returns at once: how that ends stands in its object,
    never in the end of a command. Methods raise StepFailed when Velero or the cluster refuses.
    """

    def trouble(self) -> str:
        """Why nothing can be backed up just now, in words; empty when it can."""
        ...

    def nodes(self) -> tuple[str, ...]:
        """Those that take pods."""
        ...

    def records(self, kind: str) -> list[Object]:
        """All objects of Velero's of a kind, as in `podvolumebackups`."""
        ...

    def living(self, namespaces: Sequence[str], *, items: bool = True) -> Living:
        """What is in these namespaces just now; without `items` only pods, claims and volumes."""
        ...

    def begin(self, namespace: str) -> None:
        """Let pods with volumes run in a new namespace, as strictly as the system's own."""
        ...

    def fill(self, namespace: str) -> None:
        """Write files of every kind into the volumes of the pods that run there."""
        ...

    def files(self, namespace: str) -> dict[str, dict[str, str]]:
        """By claim, what stands for each file of its volume by path: kind, mode, owner and checksum."""
        ...

    def back_up(self, name: str, namespaces: Sequence[str]) -> None:
        """Ask for a backup with volumes."""
        ...

    def archived(self, backup: str, namespaces: Sequence[str]) -> dict[str, str]:
        """Digests of the objects of these namespaces in a backup's archive, read from the store; keys as in `Living.items`."""
        ...

    def bring_back(
        self, name: str, backup: str, into: Mapping[str, str], away_from: Mapping[str, str], without: Sequence[str] = ()
    ) -> None:
        """Ask for a restore.

        Args:
            name: of the restore.
            backup: to restore from.
            into: namespace that each namespace is restored as.
            away_from: node by pod; the pod must be placed on another.
            without: labels and values, as in `cluster-name=ml`; what has one of them is left out.
        """
        ...

    def databases(self) -> dict[str, str]:
        """Pods whose database has a backup of its own, as `namespace/name`, and where that lies.

        Known from both sides: the backup tool's records list one, and it is of the very database in the pod's files.
        """
        ...

    def words(self, kind: str, name: str) -> dict[str, list[str]]:
        """`errors` and `warnings` of a `Backup` or `Restore`, as sentences; the object itself only counts them."""
        ...

    def forget(self, name: str, namespaces: Sequence[str]) -> None:
        """Delete a backup, its restores and these namespaces. No effect on what is not there."""
        ...

    def left(self, name: str, namespaces: Sequence[str]) -> str:
        """What of that is still there, in words; empty when nothing is."""
        ...


class Site(Protocol):
    """A cluster, the store outside of it, and the commands that end the one and make another in its place.

    Methods that change something raise StepFailed when it was not done, and may be repeated.
    """

    def trouble(self) -> str:
        """Why the cluster, once lost, could not be made again whole, in words; empty when it could."""
        ...

    def doors(self) -> tuple[str, ...]:
        """URLs at which the API server and the users' edge say that they are there."""
        ...

    def answering(self, doors: Sequence[str]) -> str:
        """Those at which it is the cluster that answers a new connection, in words; empty when none does."""
        ...

    def identity(self) -> str:
        """Changes when another cluster is made; empty while none answers."""
        ...

    def holds(self) -> str:
        """Namespaces of the system that are there, in words; empty when there is none."""
        ...

    def contents(self) -> dict[str, str]:
        """SHA-256 of every object of every bucket of the system, by `bucket/key`, each read whole."""
        ...

    def archive(self) -> str:
        """See that the database has a backup outside the cluster, made now where there is none; returns its label."""
        ...

    def destroy(self) -> None:
        """End the cluster with all that is in it."""
        ...

    def create(self) -> None:
        """Make an empty one in its place."""
        ...

    def install(self, say: Say) -> None:
        """Let Velero run there, with the store that has the backups."""
        ...

    def clear(self, say: Say) -> None:
        """Delete the namespaces of the system, as a rebuild that broke off leaves them."""
        ...

    def missing(self) -> str:
        """What is waited for until all of the system runs and users reach it, in words; empty when it does."""
        ...

    def misfits(self) -> str:
        """Which keys of this machine are not those of the system there, in words; empty when all are."""
        ...
