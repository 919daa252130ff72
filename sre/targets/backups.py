"""What a drill may ask of whoever backs up whole namespaces of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sre.readings import Living

Object = Mapping[str, Any]


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

    def bring_back(self, name: str, backup: str, into: Mapping[str, str], away_from: Mapping[str, str]) -> None:
        """Ask for a restore.

        Args:
            name: of the restore.
            backup: to restore from.
            into: namespace that each namespace is restored as.
            away_from: node by pod; the pod must be placed on another.
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
