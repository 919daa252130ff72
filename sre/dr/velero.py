"""A backup of namespaces by Velero, and its restore elsewhere: each as facts, from which `sre.judges.velero` judges.

Nothing is raised for a backup or a restore that failed, hung or lost something: that is what is to be judged. Facts are plain dicts:

    backup, restore     the object as last seen, None when there is none
    late                what it was waiting for when its time was up, in words; empty when it was not
    made, brought       PodVolumeBackups, PodVolumeRestores
    before, after       what lived, as `Living`
    archived            digests of the objects in the store; {"trouble": why} when they could not be had
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sre.clock import Clock
from sre.errors import StepFailed
from sre.judges.velero import ENDED, SCHEDULES, newest
from sre.targets.base import Object, VolumeBackups

BACKUP_LABEL, RESTORE_LABEL = "velero.io/backup-name", "velero.io/restore-name"
LOOK_EVERY_S = 0.5

Say = Callable[[str], None]


def until(clock: Clock, look: Callable[[], str], *, within_s: float, what: str, say: Say) -> str:
    """Look again and again until nothing is waited for.

    Args:
        clock: of the target.
        look: says what is waited for; empty when it is nothing.
        within_s: deadline, s.
        what: that should be, in words.
        say: is told of each change.

    Returns:
        What was last waited for when the time was up; empty when it was not.
    """
    deadline, told = clock.now() + within_s, ""
    while seen := look():
        if clock.now() > deadline:
            return f"{what} not within {within_s:.0f} s (last seen: {seen})"
        if seen != told:
            say(f"waiting for {what}: {seen}")
            told = seen
        clock.sleep(LOOK_EVERY_S)
    return ""


def sample(volumes: VolumeBackups, clock: Clock, namespace: str, *, within_s: float, say: Say) -> dict[str, dict[str, str]]:
    """Let pods run in a namespace of their own and fill their volumes; what stands for each file.

    Raises:
        StepFailed: they do not run within the deadline, or cannot be filled.
    """
    volumes.begin(namespace)
    if late := until(clock, lambda: not_ready(volumes, [namespace], ()), within_s=within_s, what="pods to run", say=say):
        raise StepFailed(late)
    volumes.fill(namespace)
    return volumes.files(namespace)


def not_ready(volumes: VolumeBackups, namespaces: Sequence[str], wanted: Sequence[str]) -> str:
    """Pods that are not ready, in words; those that are `wanted` have to be there."""
    pods = {pod["metadata"]["name"]: pod for pod in volumes.living(namespaces, items=False).pods}
    if not pods:
        return "no pod"
    missing = [f"{name} is not there" for name in wanted if name not in pods]
    waiting = [f"{name} is {pod['status']['phase']}" for name, pod in sorted(pods.items()) if not pod["status"]["ready"]]
    return ", ".join([*missing, *waiting])


def back_up(
    volumes: VolumeBackups, clock: Clock, name: str, namespaces: Sequence[str], *, within_s: float, say: Say
) -> dict[str, Any]:
    """Back namespaces up and wait for the end: `backup`, `late`, `made`, `before`, `after`, `archived`."""
    before = volumes.living(namespaces)
    volumes.back_up(name, namespaces)
    found, late = _ended(volumes, clock, "backups", name, within_s, say)
    made = _of(volumes.records("podvolumebackups"), BACKUP_LABEL, name)
    after = volumes.living(namespaces)
    say("reading the archive back from the store")
    archived: dict[str, str]
    try:
        archived = volumes.archived(name, namespaces)
    except StepFailed as error:
        archived = {"trouble": str(error)}
    return {
        "backup": found, "late": late, "made": made, "before": asdict(before), "after": asdict(after), "archived": archived,
    }  # fmt: skip


def bring_back(  # noqa: PLR0913 - each is a part of what a restore is
    volumes: VolumeBackups, clock: Clock, name: str, backup: str, into: Mapping[str, str], *,
    away_from: Mapping[str, str], within_s: float, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Restore namespaces under other names, or their own, and wait for their pods: `restore`, `late`, `brought`, `after`.

    Args:
        volumes: of the target.
        clock: of it.
        name: of the restore.
        backup: to restore from.
        into: namespace that each namespace is restored as.
        away_from: node by pod; the pod is placed on another.
        within_s: for the restore, and once more for the pods, s.
        say: is told of each change.
    """
    volumes.bring_back(name, backup, into, away_from)
    found, late = _ended(volumes, clock, "restores", name, within_s, say)
    places, wanted = list(into.values()), list(away_from)
    if not late and found is not None and found["status"]["phase"] == "Completed":
        late = until(clock, lambda: not_ready(volumes, places, wanted), within_s=within_s, what="restored pods to run", say=say)
    brought = _of(volumes.records("podvolumerestores"), RESTORE_LABEL, name)
    return {"restore": found, "late": late, "brought": brought, "after": asdict(volumes.living(places))}


def scheduled(volumes: VolumeBackups, schedules: Sequence[Object], backups: Sequence[Object]) -> list[dict[str, Any]]:
    """What the newest complete backup of each of our schedules says of volumes, beside those that live: `backup`, `made`, `living`.

    Claims that are younger than the backup are left out.
    """
    found, made = [], volumes.records("podvolumebackups")
    for schedule in schedules:
        last = newest(schedule["metadata"]["name"], backups)
        if schedule["metadata"]["name"] not in SCHEDULES or last is None or last["status"]["phase"] != "Completed":
            continue
        living = asdict(volumes.living(last["spec"]["includedNamespaces"], items=False))
        since = last["status"]["startTimestamp"]
        living["claims"] = [one for one in living["claims"] if one["metadata"]["creationTimestamp"] < since]
        name = last["metadata"]["name"]
        found.append({"backup": name, "made": _of(made, BACKUP_LABEL, name), "living": living})
    return found


def _ended(
    volumes: VolumeBackups, clock: Clock, kind: str, name: str, within_s: float, say: Say
) -> tuple[Object | None, str]:
    found: Object | None = None

    def look() -> str:
        nonlocal found
        found = next((one for one in volumes.records(kind) if one["metadata"]["name"] == name), None)
        status = (found or {}).get("status") or {}
        if status.get("phase") in ENDED:
            return ""
        progress = status.get("progress") or {}
        done = progress.get("itemsBackedUp", progress.get("itemsRestored", 0))
        return f"{status.get('phase') or 'not begun'}, {done} of {progress.get('totalItems', 0)} items"

    late = until(clock, look, within_s=within_s, what=f"the end of {kind.removesuffix('s')} {name}", say=say)
    return found, late


def _of(found: Sequence[Object], label: str, name: str) -> list[Object]:
    return [one for one in found if (one["metadata"].get("labels") or {}).get(label) == name]
