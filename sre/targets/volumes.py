"""Velero as the memory target has it: objects as the real one leaves them, in virtual time, without a file anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sre.clock import iso
from sre.errors import StepFailed
from sre.readings import Living
from sre.targets.backups import NAMESPACES, Object
from sre.targets.simulation import VirtualClock

NODES = ("node1", "node2", "node3")
BACKUP_S = 5.0
START_S = 3.0
_BYTES = 18_000_000
_PODS = ("keeper-0", "keeper-1")
_SCHEDULES = {"ml-daily": "168h", "ml-weekly": "672h", "ml-monthly": "8928h0m0s"}
_FILES = {"./rows": "file 10001:10001 600 11", "./small": "file 10001:10001 644 22", "./link": "symbolic link 10001:10001 small"}
_ITEMS = ("configmaps/{}/keeper", "secrets/{}/keeper", "statefulsets.apps/{}/keeper", *(f"pods/{{}}/{pod}" for pod in _PODS))


class VolumeBehaviour(Protocol):
    """How simulated backups behave; see `memory.Behaviour`."""

    velero: bool
    store: bool
    schedules_paused: bool
    backup_phase: str
    backup_skips: bool
    archive_loses: bool
    restore_phase: str
    restore_s: float
    restore_alters: bool
    restore_moves: bool
    sync_s: float


@dataclass(slots=True)
class _Namespace:
    placed: dict[str, str]
    ready_at: float
    files: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Backup:
    sources: tuple[str, ...]
    begun: float
    phase: str
    pods: tuple[tuple[str, str], ...]
    archived: dict[str, str]
    files: dict[str, dict[str, dict[str, str]]]


@dataclass(slots=True)
class _Restore:
    begun: float
    takes_s: float
    phase: str
    pods: tuple[tuple[str, str], ...]
    items: int


class MemoryVolumes:
    """See `targets.base.VolumeBackups`."""

    def __init__(self, clock: VirtualClock, behaviour: VolumeBehaviour) -> None:
        self._clock, self._behaviour = clock, behaviour
        # Those of the system, each as the sample is.
        born = clock.now() - 600.0
        self._namespaces = {name: _Namespace(dict(zip(_PODS, NODES, strict=False)), born, _filled()) for name in NAMESPACES}
        self._backups: dict[str, _Backup] = {}
        self._restores: dict[str, _Restore] = {}
        self._known_from: float | None = born

    def trouble(self) -> str:
        """Whether there is a server."""
        if self._known_from is None:
            return "Velero is not installed"
        return "" if self._behaviour.velero else "the Velero server does not answer `velero version`"

    def lose(self) -> None:
        """With the cluster all is gone but the backups."""
        self._namespaces, self._restores, self._known_from = {}, {}, None

    def install(self) -> None:
        """The backups in the store are known after `sync_s`."""
        if self._known_from is None:
            self._known_from = self._clock.now() + self._behaviour.sync_s

    def clear(self, namespaces: Sequence[str]) -> None:
        """Delete them."""
        for namespace in namespaces:
            self._namespaces.pop(namespace, None)

    def ready_at(self, namespace: str) -> float:
        """From when on its pods run; never while there is none."""
        return self._namespaces[namespace].ready_at if namespace in self._namespaces else math.inf

    def databases(self) -> dict[str, str]:
        """None of the sample's pods is a database."""
        return {}

    def nodes(self) -> tuple[str, ...]:
        """Three."""
        return NODES

    def records(self, kind: str) -> list[Object]:
        """As Velero would leave them by now."""
        return {
            "backupstoragelocations": self._location, "schedules": self._schedules, "backups": self._all_backups,
            "restores": self._all_restores, "podvolumebackups": self._made, "podvolumerestores": self._brought,
        }[kind]()  # fmt: skip

    def living(self, namespaces: Sequence[str], *, items: bool = True) -> Living:
        """Of the sample, as far as it has come."""
        there = {name: self._namespaces[name] for name in namespaces if name in self._namespaces}
        digests = {key: _digest(key) for name in there for key in (item.format(name) for item in _ITEMS)}
        pods = [self._pod(name, pod, node) for name, one in there.items() for pod, node in one.placed.items()]
        claims = [
            {"metadata": _named(f"data-{pod}", name, self._wall(one.ready_at)), "spec": {"volumeName": f"pv-{pod}"}}
            for name, one in there.items()
            for pod in one.placed
        ]
        volumes = [{"metadata": {"name": f"pv-{pod}"}, "spec": {}} for pod in _PODS]
        return Living(digests if items else {}, tuple(pods), tuple(claims), tuple(volumes))

    def begin(self, namespace: str) -> None:
        """Two pods, each on a node of its own."""
        placed = dict(zip(_PODS, NODES, strict=False))
        self._namespaces.setdefault(namespace, _Namespace(placed, self._clock.now() + START_S))

    def fill(self, namespace: str) -> None:
        """Three files in each volume."""
        found = self._namespaces.get(namespace)
        if found is None or self._clock.now() < found.ready_at:
            raise StepFailed(f"no pod runs in namespace {namespace}")
        found.files = _filled()

    def files(self, namespace: str) -> dict[str, dict[str, str]]:
        """What was written, or restored."""
        found = self._namespaces.get(namespace)
        return {} if found is None else {claim: dict(files) for claim, files in found.files.items()}

    def back_up(self, name: str, namespaces: Sequence[str]) -> None:
        """Takes `BACKUP_S`."""
        pods = [(source, pod) for source in namespaces for pod in _PODS]
        if self._behaviour.backup_skips:
            pods.pop()
        keys = [item.format(source) for source in namespaces for item in _ITEMS][self._behaviour.archive_loses :]
        phase = self._behaviour.backup_phase if self._behaviour.store else "FailedValidation"
        archived = {key: _digest(key) for key in keys} if phase == "Completed" else {}
        files = {source: self.files(source) for source in namespaces}
        self._backups[name] = _Backup(tuple(namespaces), self._clock.now(), phase, tuple(pods), archived, files)

    def archived(self, backup: str, namespaces: Sequence[str]) -> dict[str, str]:
        """Of a backup that completed."""
        del namespaces
        found = self._backups.get(backup)
        if found is None or not found.archived:
            raise StepFailed(f"the archive of backup {backup} cannot be read: it is not in the store")
        return dict(found.archived)

    def bring_back(
        self, name: str, backup: str, into: Mapping[str, str], away_from: Mapping[str, str], without: Sequence[str] = ()
    ) -> None:
        """Takes `restore_s`; nothing here has the label that is left out."""
        del without
        found, behaviour, now = self._backups[backup], self._behaviour, self._clock.now()
        pods = tuple((into.get(source, source), pod) for source, pod in found.pods)
        self._restores[name] = _Restore(now, behaviour.restore_s, behaviour.restore_phase, pods, len(into) * len(_ITEMS))
        if behaviour.restore_phase != "Completed":
            return
        placed = {
            pod: node if not behaviour.restore_moves else next(one for one in NODES if one != away_from.get(pod))
            for pod, node in zip(_PODS, NODES, strict=False)
        }
        for source, place in into.items():
            kept = found.files.get(source, {})
            files = {f"data-{pod}": dict(kept.get(f"data-{pod}", {})) if (source, pod) in found.pods else {} for pod in _PODS}
            if behaviour.restore_alters:
                files[f"data-{_PODS[0]}"]["./rows"] = "file 10001:10001 600 12"
            self._namespaces[place] = _Namespace(dict(placed), now + behaviour.restore_s, files)

    def words(self, kind: str, name: str) -> dict[str, list[str]]:
        """The one warning that every restore has."""
        del name
        expected = "could not restore, ConfigMap:kube-root-ca.crt already exists. Warning: it is different"
        return {"errors": [], "warnings": [expected] if kind == "Restore" else []}

    def forget(self, name: str, namespaces: Sequence[str]) -> None:
        """At once."""
        self._backups.pop(name, None)
        self._restores.pop(name, None)
        for namespace in namespaces:
            self._namespaces.pop(namespace, None)

    def left(self, name: str, namespaces: Sequence[str]) -> str:
        """By name."""
        there = [f"namespace {namespace}" for namespace in namespaces if namespace in self._namespaces]
        there += [f"backup {name}"] if name in self._backups else []
        return ", ".join([*there, *([f"restore {name}"] if name in self._restores else [])])

    def _pod(self, namespace: str, name: str, node: str) -> Object:
        ready = self._clock.now() >= self._namespaces[namespace].ready_at
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{name}"}}, {"name": "tmp", "emptyDir": {}}]
        return {
            "metadata": _named(name, namespace, 0.0), "spec": {"nodeName": node, "volumes": volumes},
            "status": {"phase": "Running" if ready else "Pending", "ready": ready},
        }  # fmt: skip

    def _location(self) -> list[Object]:
        status = (
            {"phase": "Available"} if self._behaviour.store else {"phase": "Unavailable", "message": "403 InvalidAccessKeyId"}
        )
        return [{"metadata": {"name": "default"}, "spec": {"provider": "aws"}, "status": status}]

    def _schedules(self) -> list[Object]:
        return [
            {
                "metadata": _named(name, "velero", self._clock.wall()),
                "spec": {
                    "paused": self._behaviour.schedules_paused,
                    "template": {"ttl": ttl, "defaultVolumesToFsBackup": True, "includedNamespaces": ["data"]},
                },
                "status": {"phase": "Enabled"},
            }
            for name, ttl in _SCHEDULES.items()
        ]

    def _all_backups(self) -> list[Object]:
        if self._known_from is None or self._clock.now() < self._known_from:
            return []
        return [
            {
                "metadata": {**_named(name, "velero", self._wall(one.begun)), "labels": {}},
                "spec": {"includedNamespaces": list(one.sources)},
                "status": self._status(one.phase, one.begun + BACKUP_S, "itemsBackedUp", len(one.archived)),
            }
            for name, one in self._backups.items()
        ]

    def _all_restores(self) -> list[Object]:
        return [
            {
                "metadata": _named(name, "velero", self._wall(one.begun)),
                "status": {**self._status(one.phase, one.begun + one.takes_s, "itemsRestored", one.items), "warnings": 1},
            }
            for name, one in self._restores.items()
        ]

    def _status(self, phase: str, at: float, counted: str, items: int) -> dict[str, Any]:
        ended = self._clock.now() >= at
        progress = {counted: items if ended else 0, "totalItems": items}
        return {"phase": phase if ended else "InProgress", "progress": progress}

    def _made(self) -> list[Object]:
        return [
            _volume("velero.io/backup-name", name, namespace, pod, self._clock.now() >= one.begun + BACKUP_S)
            for name, one in self._backups.items()
            for namespace, pod in one.pods
        ]

    def _brought(self) -> list[Object]:
        return [
            _volume("velero.io/restore-name", name, namespace, pod, self._clock.now() >= one.begun + one.takes_s)
            for name, one in self._restores.items()
            for namespace, pod in one.pods
        ]

    def _wall(self, at: float) -> float:
        return at + self._clock.wall() - self._clock.now()


def _volume(label: str, of: str, namespace: str, pod: str, done: bool) -> Object:  # noqa: FBT001 - a state, no switch
    metadata = {"name": f"{of}-{pod}", "labels": {label: of}, "annotations": {"velero.io/pvc-name": f"data-{pod}"}}
    progress = {"bytesDone": _BYTES if done else 0, "totalBytes": _BYTES}
    status = {"phase": "Completed" if done else "InProgress", "snapshotID": "s" if done else "", "progress": progress}
    return {"metadata": metadata, "spec": {"pod": {"namespace": namespace, "name": pod}, "volume": "data"}, "status": status}


def _filled() -> dict[str, dict[str, str]]:
    return {f"data-{pod}": dict(_FILES) for pod in _PODS}


def _named(name: str, namespace: str, born: float) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "creationTimestamp": iso(born)}


def _digest(key: str) -> str:
    """Of what does not depend on the namespace."""
    resource, _, name = key.split("/")
    return f"{resource}:{name}"
