"""Where the toolkit keeps things, from environment variables that begin with `SRE_`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Processes with a working folder of their own get these paths.
Folder = Annotated[Path, AfterValidator(Path.resolve)]
PROJECT = Path(__file__).resolve().parent.parent


def closed_to_others(folder: Path) -> bool:
    """Whether an account without rights of its own cannot reach into `folder`, because a parent lets nobody else pass."""
    return any(not parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _base() -> Path:
    # PostgreSQL refuses root and runs as another account, which must be able to reach its data and its program.
    if os.geteuid() == 0 and closed_to_others(PROJECT):
        return Path("/var/lib/sre") / hashlib.sha256(str(PROJECT).encode()).hexdigest()[:12]
    return PROJECT


class Settings(BaseSettings):
    """Settings of the toolkit.

    Attributes:
        home: state of the local target; everything a system writes lies below it.
        tools: Debian packages unpacked by `sre tools install`.
        evidence: one folder per run.
        signing_key: private key that signs evidence, made at first use; the public key is beside it. Purging spares it.
        replicas: serving replicas of the local target.
        kubeconfig: of the kubernetes target: a file, or several as in KUBECONFIG.
        context: of it; its current one when not set.
        ingress: base URL at which users reach the kubernetes target; found from its Gateway when not set.
        ingress_ca: file of certificates to verify users' way in with; the system's own authority when not set.
        image_build: command that builds an image, with {tag}, {dockerfile} and {context}; when not set, images are taken as they
            are.
        node_power_off, node_cut, node_kubelet: commands with {node} that switch a node off, pull its cable, end its kubelet; for
            kind `docker stop {node}`. Each has a second one with `_undo` that takes it back; drills that lack them cannot run.
        velero_url: of an S3 service outside the cluster, as its pods reach it; when not set, Velero is not installed.
        velero_bucket: of it, for backups; must exist.
        velero_credentials: file with the keys to it, as the AWS tools have it.
        velero_ca: file of certificates to verify it with.
        off_site_bucket: of the same service, for a second repository of the database's backups; must exist. When not set, the
            database's backups lie in the cluster alone.
        cluster_destroy, cluster_create: commands that end the whole cluster, and that make an empty one with images, storage
            class and Gateway, which SRE_KUBECONFIG then names; without both `cluster-rebuild` cannot run.
    """

    model_config = SettingsConfigDict(env_prefix="SRE_", frozen=True, extra="forbid")

    home: Folder = Field(default_factory=lambda: _base() / ".sre")
    tools: Folder = Field(default_factory=lambda: _base() / ".tools")
    evidence: Folder = PROJECT / "evidence"
    signing_key: Folder = Field(default_factory=lambda known: known["home"] / "signing-key.pem")
    replicas: int = Field(3, ge=1, le=20)
    kubeconfig: str = Field(default_factory=lambda: os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config"))
    context: str | None = None
    ingress: str | None = None
    ingress_ca: Folder | None = None
    image_build: str | None = None
    node_power_off: str | None = None
    node_power_off_undo: str | None = None
    node_cut: str | None = None
    node_cut_undo: str | None = None
    node_kubelet: str | None = None
    node_kubelet_undo: str | None = None
    velero_url: str | None = None
    velero_bucket: str = "ml-velero"
    velero_credentials: Folder = Field(default_factory=lambda known: known["home"] / "velero-credentials")
    velero_ca: Folder | None = None
    off_site_bucket: str | None = None
    cluster_destroy: str | None = None
    cluster_create: str | None = None
