"""Plain values that targets, probes and drills hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the system's users and observers reach it. Secrets are paths to files, never values.

    Attributes:
        ingress: base URL, https.
        ca_file: certificate authority of the ingress.
        api_key_file: file with the key that drills use as users.
        prometheus, alertmanager, mlflow: base URLs.
        database: libpq connection string without a password.
        passfile: libpq password file for it.
        bodies: folder of images that users send.
    """

    ingress: str
    ca_file: Path
    api_key_file: Path
    prometheus: str
    alertmanager: str
    mlflow: str
    database: str
    passfile: Path
    bodies: Path


@dataclass(frozen=True, slots=True)
class Replica:
    """One serving replica as its platform reports it.

    Attributes:
        name: stable, for example `serving-2`.
        identity: changes when the replica is replaced: pid and start time, or the pod's UID. Empty while there is none.
        ready: its own readiness check answered 200 just now.
        restarts: how often it was started again.
    """

    name: str
    identity: str
    ready: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster, as the cluster's control plane knows it: a lost one is noticed there after most of a minute.

    Attributes:
        name: of the node.
        ready: its agent reports.
        open: it takes new pods.
        replicas: serving replicas on it.
        others: whatever else runs on it, as `namespace/pod`.
        zone: that it says it is in; empty when it says none.
    """

    name: str
    ready: bool
    open: bool
    replicas: tuple[str, ...]
    others: tuple[str, ...]
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas there are, and how many the autoscaler wants.

    Attributes:
        wanted: by the autoscaler just now.
        ready: that serve.
        least, most: between which it may choose.
    """

    wanted: int
    ready: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Split:
    """How traffic is split while there is a canary.

    Attributes:
        version: that the canary serves.
        production: version that its control and the other replicas serve.
        canary, control: shares of all requests, 0 to 1.
        replicas: canary and control, as their platform reports them.
    """

    version: str
    production: str
    canary: float
    control: float
    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the database cluster, as the cluster's own agents report it.

    Attributes:
        name: stable, for example `postgres-2`.
        identity: changes when its server is started again: pid and start time. Empty while there is none.
        role: `primary`, `sync_standby`, `standby`; empty when nobody knows.
        state: `running`, `streaming`, or what is wrong, in Patroni's words.
        timeline: 0 when nobody knows.
        lag: bytes that it has yet to replay; None when nobody knows. 0 for the primary.
    """

    name: str
    identity: str
    role: str
    state: str
    timeline: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as Alertmanager holds it.

    Attributes:
        name: `alertname`.
        active: firing and not silenced.
        starts_at: seconds since the epoch.
        runbook_url: its annotation, or an empty string.
    """

    name: str
    active: bool
    starts_at: float
    runbook_url: str


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """What the servers' own counters say about a span of time, read from Prometheus.

    Attributes:
        start, end: wall s of the first and the last scrape used.
        requests: predictions answered, whatever the status.
        errors: of them, with status 5xx.
        p95: s, from the duration histogram; None when it held nothing.
        resets: counters that began again inside the span: what they counted since the scrape before is lost.
        queries: the expressions asked, for the evidence.
    """

    start: float
    end: float
    requests: float
    errors: float
    p95: float | None
    resets: int
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """An open schedule: requests leave when planned, whatever became of the ones before.

    Attributes:
        rate: arrivals per second, Poisson.
        seconds: length of the schedule, s.
        seed: fixes the arrival times.
    """

    rate: float
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Living:
    """What is in some namespaces of a cluster.

    Attributes:
        items: digest of each object, without its metadata and status, by `resource/namespace/name`.
        pods, claims: Pods and PersistentVolumeClaims, with no more of them than is read.
        volumes: PersistentVolumes of the claims, likewise.
    """

    items: Mapping[str, str]
    pods: tuple[Mapping[str, Any], ...]
    claims: tuple[Mapping[str, Any], ...]
    volumes: tuple[Mapping[str, Any], ...]
