"""Velero's way into a cluster, with a store outside of it, so that backups outlive the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sre.config import PROJECT, Settings
from sre.errors import CannotRun, UsageError
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.velero_program import NAMESPACE, VeleroProgram

Say = Callable[[str], None]

IMAGE = "velero/velero:v1.18.3"
# Not before 1.14.3: what those send, some stores take for a part of the object (velero-plugin-for-aws#335).
PLUGIN = "velero/velero-plugin-for-aws:v1.14.3"
SCHEDULES = PROJECT / "k8s" / "components" / "velero-schedules" / "schedules.yaml"
INSTALL_WITHIN_S = 300.0
_PLACE = f"/api/v1/namespaces/{NAMESPACE}"
_OURS = "app.kubernetes.io/managed-by", "sre"
_ACCOUNT = "velero"
_AGENTS = "node-agents"
# Of what moves a volume: without a limit it takes every core of its node, and with them the answers to probes. Memory grows with
# the number of files, about 1 GiB for two million.
_MOVER = {"cpuRequest": "100m", "cpuLimit": "500m", "memoryRequest": "128Mi", "memoryLimit": "2Gi"}
# All that is needed to read and to bring back any object; without `escalate`, `bind` and `impersonate`, which cluster-admin has.
_VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]


@dataclass(frozen=True, slots=True)
class Store:
    """Where backups go.

    Attributes:
        url: of an S3 service, as pods reach it.
        bucket: that exists.
        credentials: file as the AWS tools have it, profile `default`.
        authority: file of certificates to verify the service with; None for those of the image.
    """

    url: str
    bucket: str
    credentials: Path
    authority: Path | None = None


def store_of(settings: Settings) -> Store | None:
    """The one that the settings name; None when they name none."""
    if settings.velero_url is None:
        return None
    return Store(settings.velero_url, settings.velero_bucket, settings.velero_credentials, settings.velero_ca)


def install(tools: Path, kubeconfig: str, api: Api, store: Store, say: Say) -> None:
    """Install Velero and our schedules, or leave it as it is where it is already so.

    Args:
        tools: folder of unpacked programs, where PATH holds none.
        kubeconfig: file that names the cluster, or several as in KUBECONFIG.
        api: of the cluster.
        store: for the backups.
        say: receives one line per change.

    Raises:
        UsageError: a file of the store is not there.
        CannotRun: the cluster refuses something, or has a Velero that somebody else installed; or a program is not here.
        StepFailed: the server did not run within the deadline.
    """
    programs = tools, kubeconfig, api.context
    velero, kubectl = VeleroProgram(*programs), Kubectl(*programs)
    for file in (store.credentials, *([store.authority] if store.authority else [])):
        if not file.is_file():
            raise UsageError(f"{file} does not exist; see SRE_VELERO_CREDENTIALS and SRE_VELERO_CA")
    there = api.find(_PLACE)
    if there is not None and not _ours(there):
        raise CannotRun(
            f"namespace {NAMESPACE} is somebody else's; unset SRE_VELERO_URL to use the Velero there as it is, or remove it"
        )
    say(f"velero: {IMAGE} with store {store.url}/{store.bucket}")
    kubectl.apply([*accounts(), agents()])
    settings = {"region": "minio", "s3ForcePathStyle": "true", "s3Url": store.url, "checksumAlgorithm": ""}
    velero.run(
        "install", "--provider=aws", f"--plugins={PLUGIN}", f"--image={IMAGE}", f"--bucket={store.bucket}",
        f"--secret-file={store.credentials}", f"--service-account-name={_ACCOUNT}", "--use-node-agent",
        f"--node-agent-configmap={_AGENTS}", "--use-volume-snapshots=false", "--velero-pod-cpu-request=100m",
        f"--backup-location-config={','.join(f'{key}={value}' for key, value in settings.items())}",
        *([f"--cacert={store.authority}"] if store.authority else []), "--apply", "--wait", within_s=INSTALL_WITHIN_S,
    )  # fmt: skip
    kubectl.apply(schedules())


def uninstall(tools: Path, kubeconfig: str, api: Api, say: Say) -> None:
    """Take away what `install` made; what is in the store stays. A Velero of somebody else is left alone. Arguments as there.

    Raises:
        CannotRun: the cluster refuses something, or the program is not here.
        StepFailed: it is not gone within the deadline.
    """
    there = api.find(_PLACE)
    if there is None or not _ours(there):
        return
    say("velero is going; its backups stay in their store")
    programs = tools, kubeconfig, api.context
    VeleroProgram(*programs).run("uninstall", "--force", "--wait", within_s=INSTALL_WITHIN_S)
    Kubectl(*programs).delete(accounts())


def _ours(namespace: Mapping[str, Any]) -> bool:
    name, value = _OURS
    return bool(namespace["metadata"].get("labels", {}).get(name) == value)


def schedules() -> list[dict[str, Any]]:
    """Those of the manifests."""
    found: list[dict[str, Any]] = list(yaml.safe_load_all(SCHEDULES.read_text(encoding="utf-8")))
    return found


def agents() -> dict[str, Any]:
    """Settings of the node agents: one volume at a time on each node, within limits."""
    text = json.dumps({"loadConcurrency": {"globalConfig": 1}, "podResources": _MOVER})
    metadata = {"name": _AGENTS, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"agents.json": text}}


def accounts() -> list[dict[str, Any]]:
    """Velero's namespace, and an account that may do less than the one of `velero install`, which is cluster-admin."""
    # Its agents read the files of other pods, from the nodes' disks.
    labels = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")} | dict([_OURS])
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": _VERBS}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ACCOUNT}
    subjects = [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _ACCOUNT, "namespace": NAMESPACE}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": _ACCOUNT}, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": _ACCOUNT},
            "roleRef": role, "subjects": subjects,
        },
    ]  # fmt: skip
