"""What a backup by Velero is worth: its objects, held against what lives in the cluster and what the store gives back.

Velero's command exits with 0 for a backup that failed, and a Backup is Completed although it passed over a volume. So every rule
holds two sides against each other. What counts:

* A claim is backed up when a pod volume backup of a pod that mounts it completed with a snapshot. Not that no pod runs which
  mounts it excuses it, for then Velero cannot see its files. One annotation does, that leaves the volume out, and only on pods
  whose files are those of a database of which pgBackRest's own records list a backup.
* A hostPath volume is always found: Velero passes over it, counts a warning and says Completed.
* emptyDir is not asked for, since it ends with its pod; configMap, secret, projected and downwardAPI are objects themselves.
* Events, leases, endpoints and their slices are made anew by whatever cluster it is, and are not compared.
* One warning of a restore is expected: that the ConfigMap with the cluster's own authority is there already, and another.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sre.clock import moment
from sre.judges.manifests.arithmetic import KEPT
from sre.judges.manifests.objects import Finding, Object, name, namespace

SCHEDULES = {f"ml-{kind}": kept for kind, kept in KEPT.items()}
SCHEDULE_LABEL = "velero.io/schedule-name"
PVC_ANNOTATION = "velero.io/pvc-name"
LEFT_OUT = "backup.velero.io/backup-volumes-excludes"
# After its time a backup still has to be made; the same two hours as in backups/plan.yaml.
LATE_S = 7200.0
ENDED = ("Completed", "PartiallyFailed", "Failed", "FailedValidation")
# Resources of which a cluster makes its own.
DERIVED = frozenset(
    {"events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io", "leases.coordination.k8s.io"}
)
# What every cluster makes by itself, and pods of Jobs that have ended: these run no more, and their volumes went with them.
_EXPECTED = re.compile(
    r"could not restore, ConfigMap:kube-root-ca\.crt already exists|Skip pod volume .*phase=Succeeded: pod is not running"
)
# Resources that are changed when they are restored: addresses, volumes, nodes and the container that waits for the volumes.
REWRITTEN = frozenset({"pods", "persistentvolumeclaims", "services", "serviceaccounts", "jobs.batch"})
_NO_FILES = frozenset({"emptyDir", "configMap", "secret", "projected", "downwardAPI", "image"})
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")

Items = Mapping[str, str]
Files = Mapping[str, str]
Words = Mapping[str, Sequence[str]]


def location(found: Sequence[Object]) -> Iterator[Finding]:
    """Whether there is a place for backups that can be read and written.

    Args:
        found: BackupStorageLocations.
    """
    if not found:
        yield Finding("location-missing", "backup storage location", "there is none; install Velero with one")
    for one in found:
        status = one.get("status") or {}
        if status.get("phase") != "Available":
            what = f"is {status.get('phase') or 'not validated yet'}: {status.get('message') or 'no reason given'}"
            yield Finding("location-unavailable", name(one), what)
        if one["spec"].get("accessMode") == "ReadOnly":
            yield Finding("location-read-only", name(one), "is read-only: no backup can be made")


def schedules(found: Sequence[Object], backups: Sequence[Object], now: float) -> Iterator[Finding]:
    """Whether backups are made when promised, with volumes, and kept as long as promised.

    Args:
        found: Schedules; others than ours are passed over.
        backups: all Backups.
        now: wall clock, s.
    """
    there = {name(one): one for one in found}
    for wanted, (count, apart) in SCHEDULES.items():
        if wanted not in there:
            yield Finding("schedule-missing", wanted, f"does not exist; {count} backups are promised")
            continue
        schedule = there[wanted]
        spec, status = schedule["spec"], schedule.get("status") or {}
        template = spec.get("template") or {}
        if spec.get("paused"):
            yield Finding("schedule-paused", wanted, "is paused: no backup is made")
        if status.get("phase") not in {"Enabled", None}:
            yield Finding("schedule-invalid", wanted, f"is {status['phase']}: {'; '.join(status.get('validationErrors', ()))}")
        ttl = duration_s(template.get("ttl", "720h"))
        if not count * apart <= ttl < (count + 1) * apart:
            what = f"keeps its backups for {ttl / 3600:g} h; {count} of them take {count * apart / 3600:g} h"
            yield Finding("schedule-ttl", wanted, what)
        if not template.get("defaultVolumesToFsBackup"):
            yield Finding("schedule-volumes", wanted, "leaves the volumes out")
        yield from _made(schedule, backups, apart + LATE_S, now)


def newest(schedule: str, backups: Sequence[Object]) -> Object | None:
    """The newest ended backup of a schedule."""
    labels = [((one["metadata"].get("labels") or {}).get(SCHEDULE_LABEL), one) for one in backups]
    ended = [one for label, one in labels if label == schedule and _phase(one) in ENDED]
    return max(ended, key=lambda one: str(one["metadata"]["creationTimestamp"]), default=None)


def backup(found: Object | None, words: Words) -> Iterator[Finding]:
    """What a Backup says about itself.

    Args:
        found: the Backup; None when there is none.
        words: its `errors` and `warnings` as sentences.
    """
    if found is None:
        yield Finding("backup-missing", "backup", "there is none")
        return
    yield from _ending("backup", found, "itemsBackedUp", words)


def volumes(
    pods: Sequence[Object], claims: Sequence[Object], persistent: Sequence[Object], made: Sequence[Object],
    databases: Collection[str] = (),
) -> Iterator[Finding]:  # fmt: skip
    """Every volume that has files of its own and is not in a backup.

    Args:
        pods: as they live.
        claims: PersistentVolumeClaims, likewise.
        persistent: PersistentVolumes, likewise.
        made: PodVolumeBackups of the backup.
        databases: pods whose database has a backup of its own, as `namespace/name`; see `VolumeBackups.databases`.
    """
    of_pod: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
    of_claim = set()
    for one in made:
        pod = one["spec"]["pod"]
        of_pod[pod["namespace"], pod["name"], one["spec"]["volume"]].append(one)
        of_claim.add((pod["namespace"], (one["metadata"].get("annotations") or {}).get(PVC_ANNOTATION)))
        if why := _unfinished(one):
            yield Finding("volume-failed", _volume(one), why)
    mounts: dict[tuple[str, str], list[tuple[Object, str]]] = defaultdict(list)
    for pod in pods:
        for volume in pod["spec"].get("volumes", ()):
            subject = f"{namespace(pod)}/{name(pod)} {volume['name']}"
            claim = _claim(pod, volume)
            if claim:
                mounts[namespace(pod), claim].append((pod, volume["name"]))
            elif "hostPath" in volume:
                what = f"is hostPath {volume['hostPath']['path']}, which Velero passes over"
                yield Finding("volume-on-host", subject, what)
            elif not _NO_FILES & volume.keys() and not of_pod[namespace(pod), name(pod), volume["name"]]:
                yield Finding("volume-missing", subject, "has no pod volume backup")
    hosted = {name(one) for one in persistent if "hostPath" in one["spec"]}
    for one in claims:
        users = mounts[namespace(one), name(one)]
        # By the name of the claim, since a pod that was replaced since then had another name.
        if (namespace(one), name(one)) not in of_claim and not _kept_elsewhere(users, databases):
            yield _left_out(one, users, on_host=one["spec"].get("volumeName") in hosted)


def items(before: Items, after: Items, archived: Items) -> Iterator[Finding]:
    """Objects that lived and are not in the archive as they were, and objects of the archive that never lived.

    Args:
        before: digests of the objects that lived before the backup, by `resource/namespace/name`.
        after: the same after it.
        archived: the same of what the archive holds, read back from the store.
    """
    for key in sorted((before.keys() & after.keys()) - archived.keys()):
        if not _derived(key):
            yield Finding("item-missing", key, "lives and is not in the archive")
    for key in sorted(archived.keys() - before.keys() - after.keys()):
        if not _derived(key):
            yield Finding("item-extra", key, "is in the archive and never lived")
    for key in sorted(before.keys() & after.keys() & archived.keys()):
        if before[key] == after[key] != archived[key] and not _derived(key):
            yield Finding("item-altered", key, "is not in the archive as it lives")


def restore(
    found: Object | None, words: Words, made: Sequence[Object], brought: Sequence[Object], into: Mapping[str, str]
) -> Iterator[Finding]:
    """What a Restore says about itself, and volumes of the backup that it did not bring back.

    Args:
        found: the Restore; None when there is none.
        words: its `errors` and `warnings` as sentences.
        made: PodVolumeBackups of its backup.
        brought: PodVolumeRestores of it.
        into: namespace that each namespace is restored as.
    """
    if found is None:
        yield Finding("restore-missing", "restore", "there is none")
        return
    yield from _ending("restore", found, "itemsRestored", words)
    there = {(one["spec"]["pod"]["namespace"], one["spec"]["pod"]["name"], one["spec"]["volume"]): one for one in brought}
    for one in made:
        source = one["spec"]["pod"]
        key = into.get(source["namespace"], source["namespace"]), source["name"], one["spec"]["volume"]
        if key not in there:
            yield Finding("restore-volume-missing", _volume(one), "has no pod volume restore")
        elif why := _unfinished(there[key], snapshot=False):
            yield Finding("restore-volume-failed", _volume(one), why)


def returned(archived: Items, living: Items, into: Mapping[str, str]) -> Iterator[Finding]:
    """Objects of the archive that are not there after a restore, are another, or came from nowhere.

    Args:
        archived: as in `items`.
        living: of the namespaces that were restored into.
        into: as in `restore`.
    """
    expected = {_moved(key, into): digest for key, digest in archived.items() if not _derived(key)}
    for key in sorted(expected.keys() - living.keys()):
        yield Finding("item-not-restored", key, "is in the archive and not there")
    for key in sorted(living.keys() - expected.keys()):
        if not _derived(key):
            yield Finding("item-invented", key, "is there and not in the archive")
    for key in sorted(expected.keys() & living.keys()):
        if expected[key] != living[key] and _resource(key) not in REWRITTEN:
            yield Finding("item-restored-altered", key, "is not as it is in the archive")


def content(before: Mapping[str, Files], after: Mapping[str, Files]) -> Iterator[Finding]:
    """Files in which two looks at the same volumes differ.

    Args:
        before: by claim, what stands for each file by its path: kind, mode, owner and checksum.
        after: the same, later or of the restored volumes.
    """
    for claim in sorted(before.keys() | after.keys()):
        old, new = before.get(claim), after.get(claim)
        if old is None or new is None:
            yield Finding("claim-invented" if old is None else "claim-lost", claim, f"holds {len(old or new or ())} files")
        elif old and not new:
            yield Finding("volume-empty", claim, f"is empty; it held {len(old)} files")
        else:
            for path in sorted(old.keys() | new.keys()):
                if old.get(path) != new.get(path):
                    rule = "file-altered" if path in old and path in new else "file-lost" if path in old else "file-invented"
                    yield Finding(rule, f"{claim} {path}", f"was {old.get(path, 'not there')}, is {new.get(path, 'not there')}")


def placement(before: Sequence[Object], after: Sequence[Object]) -> Iterator[Finding]:
    """Pods with volumes that came back on the node that they were backed up from.

    Args:
        before: Pods of the source.
        after: of the restore, under the same names.
    """
    nodes = {name(pod): pod["spec"].get("nodeName") for pod in after}
    for pod in before:
        if any(_claim(pod, volume) for volume in pod["spec"].get("volumes", ())):
            node = nodes.get(name(pod))
            if not node:
                yield Finding("pod-not-placed", name(pod), "came back on no node")
            elif node == pod["spec"].get("nodeName"):
                yield Finding("pod-same-node", name(pod), f"came back on {node}, where its volume was")


def taken(facts: Mapping[str, Any], databases: Collection[str] = ()) -> Iterator[Finding]:
    """What is wrong with a backup by everything that was noted of it.

    Args:
        facts: of `dr.velero.back_up`.
        databases: as in `volumes`.
    """
    before, after = facts["before"], facts["after"]
    if facts["late"]:
        yield Finding("backup-late", "backup", facts["late"])
    yield from backup(facts["backup"], facts["words"])
    yield from volumes(after["pods"], after["claims"], after["volumes"], facts["made"], databases)
    if "trouble" in facts["archived"]:
        yield Finding("archive-unreadable", "archive", facts["archived"]["trouble"])
    else:
        yield from items(before["items"], after["items"], facts["archived"])


def own(found: Items) -> dict[str, str]:
    """Those objects that are compared."""
    return {key: digest for key, digest in found.items() if not _derived(key)}


def duration_s(text: str) -> float:
    """A duration as Go writes it, `168h` or `168h0m0s`, in s; 0 for anything else."""
    match = _DURATION.fullmatch(text)
    return 0.0 if match is None else sum(int(part or 0) * size for part, size in zip(match.groups(), (3600, 60, 1), strict=True))


def _made(schedule: Object, backups: Sequence[Object], within: float, now: float) -> Iterator[Finding]:
    last = newest(name(schedule), backups)
    since = now - moment(str(schedule["metadata"]["creationTimestamp"]))
    if last is None:
        if since > within:
            yield Finding("backup-stale", name(schedule), f"made no backup in {since / 3600:,.0f} h")
        return
    if _phase(last) != "Completed":
        yield Finding("backup-phase", name(last), f"is {_phase(last)}, and it is the newest of {name(schedule)}")
    age = now - moment(str(last["metadata"]["creationTimestamp"]))
    if age > within:
        what = f"is the newest of {name(schedule)} and {age / 3600:,.0f} h old; {within / 3600:,.0f} h at most is promised"
        yield Finding("backup-stale", name(last), what)


def _ending(kind: str, found: Object, counted: str, words: Words) -> Iterator[Finding]:
    status: Mapping[str, Any] = found.get("status") or {}
    if status.get("phase") != "Completed":
        why = "; ".join(status.get("validationErrors") or ()) or status.get("failureReason") or "no reason given"
        yield Finding(f"{kind}-phase", name(found), f"is {status.get('phase') or 'not begun'}: {why}")
    for what in ("errors", "warnings"):
        said = words.get(what, [])
        unexplained = [one for one in said if not _EXPECTED.search(one)]
        # More than were said are more than are known to be harmless.
        if unexplained or status.get(what, 0) > len(said):
            yield Finding(
                f"{kind}-{what}", name(found), f"has {status.get(what, 0)} {what}: {'; '.join(unexplained) or 'not told'}"
            )
    progress = status.get("progress") or {}
    done, total = progress.get(counted, 0), progress.get("totalItems", 0)
    if done != total or not total:
        yield Finding(f"{kind}-items", name(found), f"counts {done} of {total} items")
    if failed := (status.get("hookStatus") or {}).get("hooksFailed"):
        yield Finding(f"{kind}-hooks", name(found), f"ended with {failed} failed hooks")


def _unfinished(volume: Object, *, snapshot: bool = True) -> str:
    """Why a PodVolumeBackup or PodVolumeRestore does not count; empty when it does."""
    status = volume.get("status") or {}
    if status.get("phase") != "Completed":
        return f"is {status.get('phase') or 'not begun'}: {status.get('message') or 'no reason given'}"
    if snapshot and not status.get("snapshotID"):
        return "completed without a snapshot"
    progress = status.get("progress") or {}
    done, total = progress.get("bytesDone", 0), progress.get("totalBytes", 0)
    return f"moved {done:,} of {total:,} bytes" if done < total else ""


def _left_out(claim: Object, users: Sequence[tuple[Object, str]], *, on_host: bool) -> Finding:
    subject = f"{namespace(claim)}/{name(claim)}"
    if on_host:
        return Finding("volume-on-host", subject, "lies on a hostPath volume, which Velero passes over")
    if not any(pod["status"].get("phase") == "Running" for pod, _ in users):
        return Finding("volume-not-mounted", subject, "is mounted by no pod that runs, so that no backup can hold its files")
    return Finding("volume-missing", subject, f"has no pod volume backup, though pod {name(users[0][0])} mounts it")


def _kept_elsewhere(users: Sequence[tuple[Object, str]], databases: Collection[str]) -> bool:
    """Whether every pod that mounts a claim leaves it out on purpose, and its database has a backup of its own."""
    return bool(users) and all(
        volume in str((pod["metadata"].get("annotations") or {}).get(LEFT_OUT, "")).split(",")
        and f"{namespace(pod)}/{name(pod)}" in databases
        for pod, volume in users
    )


def _claim(pod: Object, volume: Object) -> str:
    if "ephemeral" in volume:
        return f"{name(pod)}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))


def _volume(one: Object) -> str:
    pod = one["spec"]["pod"]
    return f"{pod['namespace']}/{pod['name']} {one['spec']['volume']}"


def _phase(one: Object) -> str:
    return str((one.get("status") or {}).get("phase", ""))


def _resource(key: str) -> str:
    return key.partition("/")[0]


def _derived(key: str) -> bool:
    return _resource(key) in DERIVED


def _moved(key: str, into: Mapping[str, str]) -> str:
    resource, place, rest = key.split("/", 2)
    return f"{resource}/{into.get(place, place)}/{rest}"
