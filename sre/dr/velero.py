"""A backup of namespaces by Velero, and its restore elsewhere: each as facts, from which `sre.judges.velero` judges.

Nothing is raised for a backup or a restore that failed, hung or lost something: that is what is to be judged. Facts are plain:

    backup, restore     the object as last seen, None when there is none
    late                what it was waiting for when its time was up, in words; empty when it was not
    words               its errors and warnings as sentences
    made, brought       PodVolumeBackups, PodVolumeRestores
    before, after       what lived, as `Living`
    archived            digests of the objects in the store; {"trouble": why} when they could not be had
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sre.clock import Clock
from sre.errors import StepFailed, TargetUnavailable
from sre.judges.velero import ENDED, SCHEDULES, newest
from sre.targets.backups import Object, VolumeBackups

BACKUP_LABEL, RESTORE_LABEL = "velero.io/backup-name", "velero.io/restore-name"
LOOK_EVERY_S = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who waits.

    Attributes:
        volumes: of the target.
        clock: of the target.
        within_s: for one thing that is waited for, s.
        say: is told of each change.
    """

    volumes: VolumeBackups
    clock: Clock
    within_s: float
    say: Say

    def until(self, look: Callable[[], str], what: str) -> str:
        """Look again and again until nothing is waited for.

        Args:
            look: says what is waited for; empty when it is nothing.
            what: that should be, in words.

        Returns:
            What was last waited for when the time was up; empty when it was not.
        """
        return until(look, what, self.clock, self.within_s, self.say)


def until(  # noqa: PLR0913, PLR0917 - what `Watch` holds
    look: Callable[[], str], what: str, clock: Clock, within_s: float, say: Say, every_s: float = LOOK_EVERY_S
) -> str:
    """As `Watch.until`, also while there is no Velero."""
    deadline, told = clock.now() + within_s, ""
    while waits := seen(look):
        if clock.now() > deadline:
            return f"{what} not within {within_s:.0f} s (last seen: {waits})"
        if waits != told:
            say(f"waiting for {what}: {waits}")
            told = waits
        clock.sleep(every_s)
    return ""


def seen(look: Callable[[], str]) -> str:
    """What a look says, or why the cluster cannot be asked just now."""
    try:
        return look()
    except TargetUnavailable as error:
        # A busy API server misses a look now and then; whoever waits for minutes looks again.
        return str(error)


def sample(watch: Watch, namespace: str) -> dict[str, dict[str, str]]:
    """Let pods run in a namespace of their own and fill their volumes; what stands for each file.

    Raises:
        StepFailed: they do not run within the deadline, or cannot be filled.
    """
    watch.volumes.begin(namespace)
    if late := watch.until(lambda: not_ready(watch.volumes, [namespace], ()), "pods to run"):
        raise StepFailed(late)
    watch.volumes.fill(namespace)
    return watch.volumes.files(namespace)


def not_ready(volumes: VolumeBackups, namespaces: Sequence[str], wanted: Sequence[str]) -> str:
    """Pods that are not ready, in words; those that are `wanted` have to be there."""
    pods = {pod["metadata"]["name"]: pod for pod in volumes.living(namespaces, items=False).pods}
    if not pods:
        return "no pod"
    missing = [f"{name} is not there" for name in wanted if name not in pods]
    waiting = [f"{name} is {pod['status']['phase']}" for name, pod in sorted(pods.items()) if not pod["status"]["ready"]]
    return ", ".join([*missing, *waiting])


def back_up(watch: Watch, name: str, namespaces: Sequence[str]) -> dict[str, Any]:
    """Back namespaces up and wait for the end: `backup`, `late`, `words`, `made`, `before`, `after`, `archived`."""
    volumes = watch.volumes
    before = volumes.living(namespaces)
    volumes.back_up(name, namespaces)
    found, late = _ended(watch, "backups", name)
    made = _of(volumes.records("podvolumebackups"), BACKUP_LABEL, name)
    after = volumes.living(namespaces)
    watch.say("reading the archive back from the store")
    archived: dict[str, str]
    try:
        archived = volumes.archived(name, namespaces)
    except StepFailed as error:
        archived = {"trouble": str(error)}
    return {
        "backup": found, "late": late, "words": _words(volumes, "Backup", found), "made": made, "before": asdict(before),
        "after": asdict(after), "archived": archived,
    }  # fmt: skip


def bring_back(watch: Watch, name: str, backup: str, into: Mapping[str, str], away_from: Mapping[str, str]) -> dict[str, Any]:
    """Restore namespaces and wait for their pods: `restore`, `late`, `words`, `brought`, `after`.

    Args:
        watch: waits once for the restore and once for the pods.
        name: of the restore.
        backup: to restore from.
        into: namespace that each namespace is restored as.
        away_from: node by pod; the pod is placed on another.
    """
    volumes = watch.volumes
    volumes.bring_back(name, backup, into, away_from)
    facts = restored(watch, name)
    places, wanted = list(into.values()), list(away_from)
    if not facts["late"] and facts["restore"]["status"]["phase"] == "Completed":
        facts["late"] = watch.until(lambda: not_ready(volumes, places, wanted), "restored pods to run")
    return {**facts, "after": asdict(volumes.living(places))}


def restored(watch: Watch, name: str) -> dict[str, Any]:
    """Wait for the end of a restore: `restore`, `late`, `words`, `brought`."""
    found, late = _ended(watch, "restores", name)
    brought = _of(watch.volumes.records("podvolumerestores"), RESTORE_LABEL, name)
    return {"restore": found, "late": late, "words": _words(watch.volumes, "Restore", found), "brought": brought}


def scheduled(volumes: VolumeBackups, schedules: Sequence[Object], backups: Sequence[Object]) -> list[dict[str, Any]]:
    """What the newest complete backup of each of our schedules says of volumes: `backup`, `made`, `living`, `databases`.

    What is living leaves out claims that are younger than the backup; databases have backups of their own.
    """
    found, made, databases = [], volumes.records("podvolumebackups"), volumes.databases()
    for schedule in schedules:
        last = newest(schedule["metadata"]["name"], backups)
        if schedule["metadata"]["name"] not in SCHEDULES or last is None or last["status"]["phase"] != "Completed":
            continue
        living = asdict(volumes.living(last["spec"]["includedNamespaces"], items=False))
        since = last["status"]["startTimestamp"]
        living["claims"] = [one for one in living["claims"] if one["metadata"]["creationTimestamp"] < since]
        name = last["metadata"]["name"]
        found.append({"backup": name, "made": _of(made, BACKUP_LABEL, name), "living": living, "databases": databases})
    return found


def _ended(watch: Watch, kind: str, name: str) -> tuple[Object | None, str]:
    found: Object | None = None

    def look() -> str:
        nonlocal found
        found = next((one for one in watch.volumes.records(kind) if one["metadata"]["name"] == name), None)
        status = (found or {}).get("status") or {}
        if status.get("phase") in ENDED:
            return ""
        progress = status.get("progress") or {}
        done = progress.get("itemsBackedUp", progress.get("itemsRestored", 0))
        return f"{status.get('phase') or 'not begun'}, {done} of {progress.get('totalItems', 0)} items"

    late = watch.until(look, f"the end of {kind.removesuffix('s')} {name}")
    return found, late


def _words(volumes: VolumeBackups, kind: str, found: Object | None) -> dict[str, list[str]]:
    status = (found or {}).get("status") or {}
    if not (status.get("errors") or status.get("warnings")) or found is None:
        return {}
    try:
        return volumes.words(kind, found["metadata"]["name"])
    except StepFailed:
        # They stay counted, and none is known to be harmless.
        return {}


def _of(found: Sequence[Object], label: str, name: str) -> list[Object]:
    return [one for one in found if (one["metadata"].get("labels") or {}).get(label) == name]
