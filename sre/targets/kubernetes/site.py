"""A cluster as a whole: commands of those who own it end it and make an empty one; all else comes from the store outside."""

from __future__ import annotations

import shlex
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from sre.clock import SystemClock
from sre.errors import CannotRun, SreError, StepFailed, TargetUnavailable
from sre.targets.backups import Say
from sre.targets.kubernetes import edge, namespaces, off_site, pgbackrest, secrets, velero_install
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.nodes import ready
from sre.targets.kubernetes.place import Place
from sre.targets.kubernetes.velero_install import Store
from sre.targets.kubernetes.velero_program import NAMESPACE as VELERO
from sre.targets.objects import S3

COMMAND_WITHIN_S = 1200.0
NODES_WITHIN_S = 300.0
_CONNECT_WITHIN_S = 3.0
_LOCATION = f"/apis/velero.io/v1/namespaces/{VELERO}/backupstoragelocations/default"
_INSIDE = (".svc", ".cluster.local")


@dataclass(frozen=True, slots=True)
class Means:
    """By what a cluster is lost and made again; None where the settings name none.

    Attributes:
        destroy, create: commands.
        store: of Velero's backups, outside the cluster.
        bucket: of the same store, for the database's.
        ingress: base URL of the edge; found from the cluster when None.
    """

    destroy: str | None = None
    create: str | None = None
    store: Store | None = None
    bucket: str | None = None
    ingress: str | None = None


class KubernetesSite:
    """See `targets.base.Site`.

    Args:
        api: of the cluster; asks the new one when one was made.
        place: this machine's folder of the system.
        tools: folder of unpacked programs.
        means: by what it is lost and made again.
        objects: opens the system's object store.
    """

    def __init__(
        self, api: Api, place: Place, tools: Path, means: Means, objects: Callable[[], AbstractContextManager[S3]]
    ) -> None:
        self._api, self._place, self._tools, self._means, self._objects = api, place, tools, means, objects

    def trouble(self) -> str:
        """Commands, store, Velero's way to it, and pgBackRest's."""
        try:
            return next((words for words in self._troubles() if words), "")
        except SreError as error:
            return str(error)

    def doors(self) -> tuple[str, ...]:
        """Of the API server and of the edge: where each says that it is there."""
        return f"{self._api.server}/version", f"{self._means.ingress or edge.address(self._api)}/health/ready"

    def answering(self, doors: Sequence[str]) -> str:
        """By a connection to each that nobody has used; somebody else may listen at the same address."""
        own = ssl.create_default_context()
        for authority in (self._api.authority, self._place.ca_file):
            if authority is not None and authority.exists():
                own.load_verify_locations(authority)
        return ", ".join(door for door in doors if _answers(door, own))

    def identity(self) -> str:
        """UID of the namespace that every cluster begins with."""
        try:
            found = self._api.find("/api/v1/namespaces/kube-system")
        except TargetUnavailable:
            return ""
        return "" if found is None else str(found["metadata"]["uid"])

    def holds(self) -> str:
        """By name."""
        return ", ".join(namespaces.there(self._api))

    def contents(self) -> dict[str, str]:
        """Through a port of this machine."""
        with self._objects() as store:
            return store.contents()

    def archive(self) -> str:
        """In the second repository, once WAL arrives in both: what is written after a backup must come back too."""
        member = pgbackrest.primary(self._api)
        pgbackrest.check(self._api, member)
        there = [one for one in pgbackrest.held(pgbackrest.ask(self._api, member)) if one.repository == pgbackrest.OUTSIDE]
        return there[-1].label if there else pgbackrest.back_up(self._api, pgbackrest.OUTSIDE)

    def destroy(self) -> None:
        """Run the command."""
        _run(self._means.destroy, "SRE_CLUSTER_DESTROY")

    def create(self) -> None:
        """Run the command, unless a cluster answers already, and wait for its nodes."""
        # Another one than was asked so far may be there, if whoever made it was ended.
        with suppress(TargetUnavailable):
            self._api.reload()
        if not self.identity():
            _run(self._means.create, "SRE_CLUSTER_CREATE")
            self._api.reload()
        clock = SystemClock()
        deadline = clock.now() + NODES_WITHIN_S
        while waiting := self._not_ready():
            if clock.now() > deadline:
                raise StepFailed(f"the new cluster's nodes are not ready within {NODES_WITHIN_S:.0f} s (last seen: {waiting})")
            clock.sleep(1.0)

    def install(self, say: Say) -> None:
        """As `sre up` does."""
        velero_install.install(self._tools, self._place.kubeconfig, self._api, self._store(), say)

    def clear(self, say: Say) -> None:
        """And wait until they are gone."""
        namespaces.delete(Kubectl(*self._programs()), self._api, SystemClock(), say)

    def missing(self) -> str:
        """Of every Deployment and StatefulSet, and an address of the edge."""
        try:
            waits = namespaces.workloads(self._api)
            if not waits:
                return "no workload is there"
            waiting = "; ".join(words for words in waits.values() if words)
            if not waiting and not self._means.ingress:
                edge.address(self._api)
        except TargetUnavailable as error:
            return str(error)
        return waiting

    def misfits(self) -> str:
        """Certificate authority and API key, as the folder and the cluster have them. A folder without them gets them."""
        held = namespaces.held(self._api)
        if not self._place.ca_file.exists():
            namespaces.hand_out(self._place, held)
        authority = next((secrets.decoded(one) for one in held if one["metadata"]["name"] == "authority"), {}).get("ca.crt")
        try:
            key = secrets.drills_key(held)
        except KeyError:
            key = None
        kept = {"the certificate authority": (self._place.ca_file, authority), "the API key": (self._place.api_key_file, key)}
        return " and ".join(f"{what} is another one" for what, (file, there) in kept.items() if file.read_text("utf-8") != there)

    def _troubles(self) -> Iterator[str]:
        means = self._means
        if not (means.destroy and means.create):
            yield "nothing is known that can end the cluster and make an empty one; set SRE_CLUSTER_DESTROY, SRE_CLUSTER_CREATE"
        if means.store is None or means.bucket is None:
            yield "there is no store outside the cluster; set SRE_VELERO_URL and SRE_OFF_SITE_BUCKET and run `sre up`"
            return
        yield self._inside(str(urlsplit(means.store.url).hostname))
        for bucket in (means.store.bucket, means.bucket):
            off_site.opened(means.store).keys(bucket, "no key begins so/")
        location = self._api.get(_LOCATION)["spec"]
        there = location["config"].get("s3Url"), location["objectStorage"]["bucket"]
        if there != (means.store.url, means.store.bucket):
            yield f"Velero's backups go to {there[0]}/{there[1]}, and SRE_VELERO_URL names {means.store.url}/{means.store.bucket}"
        held = self._api.find("/api/v1/namespaces/data/secrets/off-site")
        of_bucket = secrets.decoded(held).get("PGBACKREST_REPO2_S3_BUCKET") if held else None
        if of_bucket != means.bucket:
            yield f"the database's backups go to bucket {of_bucket}, and SRE_OFF_SITE_BUCKET names {means.bucket}; run `sre up`"
        yield pgbackrest.unusable(pgbackrest.ask(self._api, pgbackrest.primary(self._api)), pgbackrest.OUTSIDE)

    def _inside(self, host: str) -> str:
        """Why what is at a host is lost with the cluster."""
        if host.endswith(_INSIDE):
            return f"the store {host} is a Service of the cluster, and is lost with it"
        try:
            addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
        except OSError as error:
            return f"the store's host {host} is not known ({error}); correct SRE_VELERO_URL"
        for what, own in self._addresses():
            if own in addresses:
                return f"the store {host} has the address of {what}, and is lost with the cluster"
        return ""

    def _addresses(self) -> Iterator[tuple[str, str]]:
        for node in self._api.get("/api/v1/nodes")["items"]:
            for one in node["status"].get("addresses", ()):
                yield f"node {node['metadata']['name']}", one["address"]
        for service in self._api.get("/api/v1/services")["items"]:
            spec, balancer = service["spec"], (service.get("status") or {}).get("loadBalancer") or {}
            what = f"Service {service['metadata']['namespace']}/{service['metadata']['name']}"
            for address in (*spec.get("clusterIPs", ()), *spec.get("externalIPs", ())):
                yield what, address
            for one in balancer.get("ingress") or ():
                yield what, one.get("ip", "")
        for pod in self._api.get("/api/v1/pods")["items"]:
            for one in pod["status"].get("podIPs", ()):
                yield f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}", one["ip"]

    def _not_ready(self) -> str:
        try:
            nodes: list[dict[str, Any]] = self._api.get("/api/v1/nodes")["items"]
        except TargetUnavailable as error:
            return str(error)
        return ", ".join(node["metadata"]["name"] for node in nodes if not ready(node)) if nodes else "no node"

    def _programs(self) -> tuple[Path, str, str]:
        return self._tools, self._place.kubeconfig, self._place.context

    def _store(self) -> Store:
        if self._means.store is None:
            raise CannotRun("there is no store to bring anything back from; set SRE_VELERO_URL")
        return self._means.store


def _answers(door: str, own: ssl.SSLContext) -> bool:
    try:
        answer = httpx.get(door, verify=own, timeout=_CONNECT_WITHIN_S, trust_env=False)
    except httpx.HTTPError:
        return False
    # Who has a certificate of the cluster's authority is known by it, whatever it says; others only by what they say.
    return door.startswith("https:") or answer.status_code == httpx.codes.OK


def _run(command: str | None, setting: str) -> None:
    if not command:
        raise StepFailed(f"no command is known for it; set {setting}")
    try:
        done = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_WITHIN_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise StepFailed(f"`{command}` cannot be run: {error}; correct {setting}") from error
    if done.returncode:
        raise StepFailed(f"`{command}` exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
