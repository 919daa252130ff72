"""Objects of the Velero drills: pods whose volumes are backed up, and what places their restores elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sre.judges.velero import LEFT_OUT
from sre.targets.backups import Object

NAME = "keeper"
IMAGE = "docker.io/library/busybox:1.37"
REPLICAS = 2
MOUNT = "/data"
_ACCOUNT = 10001
_LABELS = {"app.kubernetes.io/name": NAME}
# What says which node a volume was made on; kept, it would be made there again.
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
# Files of every kind: empty, small, one byte past a part of a multipart upload, of several parts, deep, closed to others, a link.
FILL = r"""
set -e
cd "$1"
mkdir -p "deep/er/and deeper"
: > empty
head -c 1024 /dev/urandom > small
head -c 5242881 /dev/urandom > deep/a-part-and-a-byte
head -c 12582912 /dev/urandom > "deep/er/and deeper/parts ü"
seq 1 10000 | sed "s/^/$2 row /" > rows
chmod 600 rows
chmod 750 deep
ln -s deep/a-part-and-a-byte link
"""
# What is left out is not the users': Velero leaves its mark in the first, a file system has the second.
LOOK = r"""
set -e
cd "$1"
shown() { find . \( -path ./.velero -o -path ./lost+found \) -prune -o "$@"; }
shown -type f -exec sha256sum {} +
echo --
shown -exec stat -c '%a|%u:%g|%F|%n' {} +
echo --
shown -type l -exec sh -c 'for link; do printf "%s -> %s\n" "$link" "$(readlink "$link")"; done' sh {} +
"""


def sample(namespace: str) -> list[dict[str, Any]]:
    """A namespace with pods that have a volume each, under the rules of the system's own namespaces."""
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    made = {"namespace": namespace, "labels": _LABELS}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": restricted}},
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {**made, "name": "default-deny"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        },
        {
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**made, "name": NAME},
            "automountServiceAccountToken": False,
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**made, "name": NAME}, "data": {"answer": "42"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {**made, "name": NAME}, "stringData": {"word": "not a secret"}},
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {**made, "name": NAME},
            "spec": {"clusterIP": "None", "selector": _LABELS, "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {**made, "name": NAME},
            "spec": {
                "replicas": REPLICAS, "serviceName": NAME, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": _LABELS}, "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
                "volumeClaimTemplates": [
                    {
                        "metadata": {"name": "data"},
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
                    }
                ],
            },
        },
    ]  # fmt: skip


def _pod() -> dict[str, Any]:
    container = {
        "name": NAME, "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 864000 & wait"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "data", "mountPath": MOUNT}, {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
            {"name": "settings", "mountPath": "/etc/keeper", "readOnly": True},
        ],
    }  # fmt: skip
    spread = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": _LABELS}}
    return {
        "serviceAccountName": NAME, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _ACCOUNT, "runAsGroup": _ACCOUNT, "fsGroup": _ACCOUNT,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": spread}],
            }
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "settings", "configMap": {"name": NAME}}],
    }  # fmt: skip


def modifier(name: str, place: str, away_from: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap that keeps restored pods off nodes; their volumes are then made where they go.

    Args:
        name: of it.
        place: Velero's namespace.
        away_from: node by pod.
    """
    patches = {pod: {"spec": {"affinity": {"nodeAffinity": _not_on(node)}}} for pod, node in away_from.items()}
    rules = [_rule("pods", f"^{pod}$", patch) for pod, patch in patches.items()]
    rules.append(_rule("persistentvolumeclaims", "", {"metadata": {"annotations": {_SELECTED_NODE: None}}}))
    # YAML holds JSON.
    text = json.dumps({"version": "v1", "resourceModifierRules": rules})
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": place}, "data": {"rules.yaml": text},
    }  # fmt: skip


def _rule(resource: str, names: str, patch: Mapping[str, Any]) -> dict[str, Any]:
    conditions = {"groupResource": resource, **({"resourceNameRegex": names} if names else {})}
    return {"conditions": conditions, "mergePatches": [{"patchData": json.dumps(patch)}]}


def _not_on(node: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def download(name: str, place: str, kind: str, of: str) -> dict[str, Any]:
    """The request for a file that belongs to a backup or restore.

    Args:
        name: of the request.
        place: Velero's namespace.
        kind: of the file, as in `RestoreResults`.
        of: name of the backup or restore.
    """
    target = {"kind": kind, "name": of}
    metadata = {"name": name, "namespace": place}
    return {"apiVersion": "velero.io/v1", "kind": "DownloadRequest", "metadata": metadata, "spec": {"target": target}}


def sentences(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """`errors` and `warnings` of a results file: those of Velero, of the cluster, and of each namespace."""
    return {kind: list(_leaves(results.get(kind) or {})) for kind in ("errors", "warnings")}


def _leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for part in tree.values():
            yield from _leaves(part)
    elif tree:
        yield from map(str, tree)


def digest(thing: Object) -> str:
    """Of what an object says, without its metadata and status, as 16 hex digits."""
    said = {key: value for key, value in thing.items() if key not in {"apiVersion", "kind", "metadata", "status"}}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def brief(thing: Object) -> dict[str, Any]:
    """A Pod, claim or volume with no more than is read of it."""
    kept = {key: thing["metadata"][key] for key in ("name", "namespace", "creationTimestamp") if key in thing["metadata"]}
    if left_out := (thing["metadata"].get("annotations") or {}).get(LEFT_OUT):
        kept["annotations"] = {LEFT_OUT: left_out}
    spec = {key: thing["spec"][key] for key in ("nodeName", "volumes", "volumeName", "hostPath") if key in thing["spec"]}
    status = thing.get("status") or {}
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
    return {"metadata": kept, "spec": spec, "status": {"phase": status.get("phase", ""), "ready": ready}}


def parsed(output: str) -> dict[str, str]:
    """What `LOOK` wrote: what stands for each file, by path.

    Raises:
        ValueError: a line is none of its lines; the message is that line.
    """
    sums, stats, links = _sections(output)
    of = {path: checksum for checksum, _, path in (line.partition("  ") for line in sums)}
    to = dict(line.split(" -> ", 1) for line in links if _known(line, " -> " in line))
    found = {}
    for line in stats:
        mode, owner, kind, path = line.split("|", 3) if _known(line, line.count("|") >= 3) else ("", "", "", "")
        # The mode of a link and the size of a directory mean nothing.
        what = to.get(path) or f"{mode} {of.get(path, '')}".rstrip()
        found[path] = f"{kind.removeprefix('regular ')} {owner} {what}"
    if odd := sorted({*of, *to} - found.keys()):
        raise ValueError(odd[0])
    return found


def _sections(output: str) -> Sequence[list[str]]:
    parts: list[list[str]] = [[]]
    for line in output.splitlines():
        if line == "--":
            parts.append([])
        else:
            parts[-1].append(line)
    if len(parts) != 3:
        raise ValueError(output[-200:] or "nothing")
    return parts


def _known(line: str, good: bool) -> bool:  # noqa: FBT001 - a condition on the line
    if not good:
        raise ValueError(line)
    return True
