"""Velero on a cluster: what its objects say, what the store gives back, what volumes hold."""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from sre.clock import SystemClock
from sre.errors import StepFailed, TargetUnavailable
from sre.readings import Living
from sre.targets.backups import Object
from sre.targets.kubernetes import pgbackrest
from sre.targets.kubernetes import velero_objects as objects
from sre.targets.kubernetes.client import Api, Ended
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.nodes import ready
from sre.targets.kubernetes.velero_program import NAMESPACE, VeleroProgram

_OWN = f"/apis/velero.io/v1/namespaces/{NAMESPACE}"
# What Velero asks of a resource to back it up: discovery.SupportsAllVerbs in its pkg/backup/item_collector.go.
_VERBS = {"list", "create", "get", "delete"}
# For volumes of some gigabytes.
FILES_WITHIN_S = 600.0
RESULTS_WITHIN_S = 30.0
_REMEDY = "set SRE_VELERO_URL and SRE_VELERO_CREDENTIALS and run `sre up --target kubernetes`"
# If nobody deletes the drill's backup, Velero does.
TTL = "24h"


class KubernetesVolumes:
    """See `targets.base.VolumeBackups`.

    Args:
        api: of the cluster.
        kubectl, velero: the programs, for the same cluster.
    """

    def __init__(self, api: Api, kubectl: Kubectl, velero: VeleroProgram) -> None:
        self._api, self._kubectl, self._velero = api, kubectl, velero

    def trouble(self) -> str:
        """Server, node agents, and that the server answers."""
        if self._api.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/velero") is None:
            return f"Velero is not installed; {_REMEDY}"
        agents = self._api.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/node-agent")
        if agents is None:
            return "Velero has no node agents, so it backs up no files; install it with --use-node-agent"
        status = agents["status"]
        if status.get("numberReady", 0) < max(status["desiredNumberScheduled"], 1):
            return f"{status.get('numberReady', 0)} of {status['desiredNumberScheduled']} node agents are ready"
        return "" if self._velero.server() else "the Velero server does not answer `velero version`"

    def nodes(self) -> tuple[str, ...]:
        """Ready, not cordoned, and without a taint that keeps pods off."""
        return tuple(
            node["metadata"]["name"]
            for node in self._api.get("/api/v1/nodes")["items"]
            if not node["spec"].get("unschedulable")
            and not any(taint["effect"] != "PreferNoSchedule" for taint in node["spec"].get("taints", ()))
            and ready(node)
        )

    def records(self, kind: str) -> list[Object]:
        """Without the fields that say who set which field."""
        return [_unmanaged(one) for one in self._api.get(f"{_OWN}/{kind}")["items"]]

    def living(self, namespaces: Sequence[str], *, items: bool = True) -> Living:
        """By discovery, as Velero does it."""
        resources = [("/api/v1", "pods"), ("/api/v1", "persistentvolumeclaims")] if not items else list(self._resources())
        digests: dict[str, str] = {}
        found: dict[str, list[dict[str, Any]]] = {"pods": [], "persistentvolumeclaims": []}
        for namespace in namespaces:
            for base, resource in resources:
                for one in self._api.get(f"{base}/namespaces/{namespace}/{resource}")["items"]:
                    digests[_key(base, resource, namespace, one["metadata"]["name"])] = objects.digest(one)
                    if base == "/api/v1" and resource in found:
                        found[resource].append(objects.brief(one))
        claimed = {claim["spec"].get("volumeName") for claim in found["persistentvolumeclaims"]}
        volumes = [one for one in self._api.get("/api/v1/persistentvolumes")["items"] if one["metadata"]["name"] in claimed]
        pods, claims = (tuple(found[kind]) for kind in ("pods", "persistentvolumeclaims"))
        return Living(digests if items else {}, pods, claims, tuple(map(objects.brief, volumes)))

    def begin(self, namespace: str) -> None:
        """Apply the sample."""
        self._kubectl.apply(objects.sample(namespace))

    def fill(self, namespace: str) -> None:
        """By a command in each of the pods."""
        for pod in self._api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]:
            name = pod["metadata"]["name"]
            ended = self._run(namespace, name, objects.NAME, [objects.FILL, objects.MOUNT, name])
            if ended.code != 0:
                raise StepFailed(f"the volume of pod {name} was not filled (status {ended.code}): {ended.output.strip()[-300:]}")

    def files(self, namespace: str) -> dict[str, dict[str, str]]:
        """By a command in a container that mounts the volume, so that it is seen as its users see it."""
        found: dict[str, dict[str, str]] = {}
        for pod in self._api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]:
            for volume in pod["spec"].get("volumes", ()):
                claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
                if claim and claim not in found and pod["status"].get("phase") == "Running":
                    found[claim] = self._look(namespace, pod, volume["name"])
        return found

    def back_up(self, name: str, namespaces: Sequence[str]) -> None:
        """By file system backup of every volume."""
        self._velero.run(
            "backup", "create", name, f"--include-namespaces={','.join(namespaces)}", "--default-volumes-to-fs-backup",
            "--snapshot-volumes=false", f"--ttl={TTL}",
        )  # fmt: skip

    def archived(self, backup: str, namespaces: Sequence[str]) -> dict[str, str]:
        """By `velero backup download`, from the store and not from the server."""
        with tempfile.TemporaryDirectory(prefix="sre-velero-") as folder:
            archive = Path(folder, "archive.tar.gz")
            authority = self._authority(Path(folder))
            self._velero.run(
                "backup", "download", backup, f"--output={archive}", *([f"--cacert={authority}"] if authority else [])
            )
            try:
                return {key: objects.digest(one) for key, one in archived(archive, namespaces)}
            except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                raise StepFailed(f"the archive of backup {backup} cannot be read: {error}") from error

    def bring_back(
        self, name: str, backup: str, into: Mapping[str, str], away_from: Mapping[str, str], without: Sequence[str] = ()
    ) -> None:
        """With a resource modifier where pods must be placed elsewhere."""
        elsewhere = []
        if away_from:
            self._kubectl.apply([objects.modifier(name, NAMESPACE, away_from)])
            elsewhere = [f"--resource-modifier-configmap={name}"]
        moved = [f"--namespace-mappings={','.join(f'{old}:{new}' for old, new in into.items() if old != new)}"]
        self._velero.run(
            "restore", "create", name, f"--from-backup={backup}", f"--include-namespaces={','.join(into)}",
            *(moved if any(old != new for old, new in into.items()) else []), *elsewhere,
            *([f"--selector={','.join('{} notin ({})'.format(*one.split('=', 1)) for one in without)}"] if without else []),
        )  # fmt: skip

    def databases(self) -> dict[str, str]:
        """By the identifier of the database in the files of each pod, and those in pgBackRest's records."""
        return pgbackrest.kept(self._api)

    def words(self, kind: str, name: str) -> dict[str, list[str]]:
        """From the file of results in the store."""
        request = objects.download(f"{name}-{kind.lower()}", NAMESPACE, f"{kind}Results", name)
        self._kubectl.apply([request])
        try:
            url = self._download(request["metadata"]["name"])
            with tempfile.TemporaryDirectory(prefix="sre-velero-") as folder:
                authority = self._authority(Path(folder))
                verify = ssl.create_default_context(cafile=authority) if authority else True
                answer = httpx.get(url, timeout=RESULTS_WITHIN_S, verify=verify, trust_env=False).raise_for_status()
            return objects.sentences(json.loads(gzip.decompress(answer.content)))
        except (httpx.HTTPError, OSError, EOFError, ValueError) as error:
            raise StepFailed(f"the results of {kind} {name} cannot be read: {error}") from error
        finally:
            self._kubectl.delete([request])

    def forget(self, name: str, namespaces: Sequence[str]) -> None:
        """Velero deletes the snapshots in the store and the restores along with a backup."""
        self._kubectl.delete(
            [
                *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}} for namespace in namespaces),
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}},
            ]
        )
        backup = self._api.find(f"{_OWN}/backups/{name}")
        if backup is None:
            return
        if (backup.get("status") or {}).get("phase") == "FailedValidation":
            # Nothing of it is in the store, which may be away, and without the store Velero deletes none.
            self._kubectl.delete([backup])
        else:
            self._velero.run("backup", "delete", name, "--confirm")

    def left(self, name: str, namespaces: Sequence[str]) -> str:
        """Backup, restores and namespaces."""
        paths = {f"namespace {namespace}": f"/api/v1/namespaces/{namespace}" for namespace in namespaces}
        paths |= {f"{kind} {name}": f"{_OWN}/{kind}s/{name}" for kind in ("backup", "restore")}
        return ", ".join(what for what, path in paths.items() if self._api.find(path) is not None)

    def _resources(self) -> Iterator[tuple[str, str]]:
        groups = [group["preferredVersion"]["groupVersion"] for group in self._api.get("/apis")["groups"]]
        # Metrics are no objects, and whoever serves them may be away.
        stored = [f"/apis/{group}" for group in groups if not group.partition("/")[0].endswith("metrics.k8s.io")]
        for base in ("/api/v1", *stored):
            for one in self._api.get(base)["resources"]:
                if one["namespaced"] and "/" not in one["name"] and set(one["verbs"]) >= _VERBS:
                    yield base, one["name"]

    def _look(self, namespace: str, pod: Object, volume: str) -> dict[str, str]:
        name = pod["metadata"]["name"]
        why = "no container mounts it whole"
        for container in pod["spec"]["containers"]:
            for mount in container.get("volumeMounts", ()):
                if mount["name"] != volume or mount.get("subPath"):
                    continue
                ended = self._run(namespace, name, container["name"], [objects.LOOK, mount["mountPath"]])
                try:
                    if ended.code == 0:
                        return objects.parsed(ended.output)
                    why = f"status {ended.code}: {ended.output.strip()[-300:]}"
                except ValueError as error:
                    why = f"this line is not understood: {error}"
        raise StepFailed(f"volume {volume} of pod {name} cannot be read ({why}); its image needs sh, find and sha256sum")

    def _run(self, namespace: str, pod: str, container: str, script: Sequence[str]) -> Ended:
        command = ["sh", "-c", script[0], "sh", *script[1:]]
        return self._api.run(namespace, pod, container, command, within_s=FILES_WITHIN_S)

    def _download(self, request: str) -> str:
        clock = SystemClock()
        deadline = clock.now() + RESULTS_WITHIN_S
        while clock.now() < deadline:
            status = self._api.get(f"{_OWN}/downloadrequests/{request}").get("status") or {}
            if status.get("downloadURL"):
                return str(status["downloadURL"])
            clock.sleep(0.2)
        raise StepFailed(f"Velero gave no address for {request} within {RESULTS_WITHIN_S:.0f} s")

    def _authority(self, folder: Path) -> Path | None:
        """Of the store, as the backup storage location has it; None when it has none."""
        for one in self.records("backupstoragelocations"):
            if authority := one["spec"].get("objectStorage", {}).get("caCert"):
                (folder / "ca.pem").write_bytes(base64.b64decode(authority))
                return folder / "ca.pem"
        return None


def archived(archive: Path, namespaces: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of some namespaces in the archive of a backup, by `resource/namespace/name`.

    Raises:
        tarfile.TarError, OSError, EOFError, ValueError: it is damaged.
    """
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = Path(member.name).parts
            # The same objects lie below a folder for each version of the API, too.
            if len(parts) == 5 and parts[0] == "resources" and parts[2] == "namespaces" and parts[3] in namespaces:
                file = tar.extractfile(member)
                yield f"{parts[1]}/{parts[3]}/{parts[4].removesuffix('.json')}", json.loads(file.read() if file else b"")


def _key(base: str, resource: str, namespace: str, name: str) -> str:
    group = "" if base == "/api/v1" else f".{base.split('/')[2]}"
    return f"{resource}{group}/{namespace}/{name}"


def _unmanaged(one: dict[str, Any]) -> Object:
    return {**one, "metadata": {key: value for key, value in one["metadata"].items() if key != "managedFields"}}


def of(api: Api, tools: Path, kubeconfig: str) -> KubernetesVolumes:
    """For a cluster, with the programs of this machine.

    Raises:
        MissingProgram: one of them is not installed.
    """
    if api.find("/apis/velero.io/v1") is None:
        raise TargetUnavailable(f"cluster {api.context} knows no Velero; {_REMEDY}")
    return KubernetesVolumes(api, Kubectl(tools, kubeconfig, api.context), VeleroProgram(tools, kubeconfig, api.context))
