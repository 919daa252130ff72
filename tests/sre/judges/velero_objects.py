"""Velero's objects as its API gives them, whole ones; tests break one thing at a time."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
TODAY, LONG_AGO = "2027-01-15T02:00:00Z", "2026-01-01T00:00:00Z"


def location(phase: str = "Available", **status: Any) -> Any:
    return {"metadata": {"name": "default"}, "spec": {}, "status": {"phase": phase, **status}}


def schedule(name: str, ttl: str, **spec: Any) -> Any:
    template = {"ttl": ttl, "defaultVolumesToFsBackup": True, "includedNamespaces": ["data"]}
    metadata = {"name": name, "creationTimestamp": LONG_AGO}
    return {"metadata": metadata, "spec": {"template": template, **spec}, "status": {"phase": "Enabled"}}


def schedules() -> dict[str, Any]:
    ttls = {"ml-daily": "168h", "ml-weekly": "672h0m0s", "ml-monthly": "8928h"}
    return {name: schedule(name, ttl) for name, ttl in ttls.items()}


def backup(name: str = "b", of: str = "", at: str = TODAY, phase: str = "Completed", **status: Any) -> Any:
    labels = {"velero.io/schedule-name": of} if of else {}
    progress = {"itemsBackedUp": 30, "totalItems": 30}
    return {
        "metadata": {"name": name, "creationTimestamp": at, "labels": labels},
        "spec": {"includedNamespaces": ["data"]},
        "status": {"phase": phase, "progress": progress, "hookStatus": {}, **status},
    }


def scheduled() -> list[Any]:
    """The newest of each schedule."""
    return [backup(f"{name}-1", name) for name in schedules()]


def restore(phase: str = "Completed", **status: Any) -> Any:
    progress = {"itemsRestored": 18, "totalItems": 18}
    return {"metadata": {"name": "r"}, "status": {"phase": phase, "progress": progress, "hookStatus": {}, **status}}


def pod(name: str, *volumes: Any, node: str = "node1", phase: str = "Running", place: str = "data") -> Any:
    return {
        "metadata": {"name": name, "namespace": place},
        "spec": {"nodeName": node, "volumes": list(volumes)},
        "status": {"phase": phase, "ready": phase == "Running"},
    }


def of_claim(name: str) -> Any:
    return {"name": "data", "persistentVolumeClaim": {"claimName": name}}


def claim(name: str, volume: str = "pv") -> Any:
    return {"metadata": {"name": name, "namespace": "data"}, "spec": {"volumeName": volume}}


def moved(pod: str, volume: str = "data", place: str = "data", claim: str = "", **status: Any) -> Any:
    """A PodVolumeBackup or PodVolumeRestore."""
    whole = {"phase": "Completed", "snapshotID": "f00", "progress": {"bytesDone": 5, "totalBytes": 5}}
    annotations = {"velero.io/pvc-name": claim} if claim else {}
    spec = {"pod": {"namespace": place, "name": pod}, "volume": volume}
    return {"metadata": {"name": f"{pod}-{volume}", "annotations": annotations}, "spec": spec, "status": {**whole, **status}}
