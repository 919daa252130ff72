"""What a drill may ask of the place where the system runs, and of those who watch it there.

`Target` changes things: it kills, pauses, backs up. `Observers` only look, and none of them took part in a change: a user at
the ingress, Prometheus, Alertmanager. Real targets share one set of observers (`sre.drills.world`); the memory target is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from sre.clock import Clock


class Capability(StrEnum):
    """What a target can do beyond serving; a drill names those that it needs."""

    REPLICAS = "replicas"
    ALERTS = "alerts"
    BACKUPS = "backups"
    TRAINING = "training"


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


class Load(Protocol):
    """A running load."""

    def running(self) -> bool:
        """Whether it still sends or waits for answers."""
        ...

    def progress(self) -> str:
        """One short line for people: sent, failed."""
        ...

    def stop(self) -> None:
        """End it now, wait until the recording is written. Idempotent.

        Raises:
            StepFailed: the generator died without a recording; the message holds its last words.
        """
        ...

    def wait(self) -> None:
        """Wait for the schedule's end and the recording. Raises as `stop` does."""
        ...


class Target(Protocol):
    """The place where the system runs."""

    @property
    def name(self) -> str:
        """`local`, `kubernetes`, `memory`."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock that waits on this target use."""
        ...

    @property
    def handle(self) -> str | None:
        """How another process attaches to it, for example `local:/srv/state`; None when it lives in this process only."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Versions, settings and addresses for the evidence; no secret."""
        ...

    def replicas(self) -> tuple[Replica, ...]:
        """All replicas, by name."""
        ...

    def kill(self, replica: str) -> None:
        """End a replica at once (SIGKILL; pod deletion without grace). Raises UsageError for an unknown name."""
        ...

    def pause(self, replica: str) -> None:
        """Freeze a replica: it keeps its sockets and answers nothing. Raises UsageError for an unknown name."""
        ...

    def resume(self, replica: str) -> None:
        """End a pause. No effect on a replica that runs. Raises UsageError for an unknown name."""
        ...


class Observers(Protocol):
    """Those who look at the system from outside and change nothing."""

    @property
    def settle_s(self) -> float:
        """How long after an answer the servers' counters are sure to show it, s."""
        ...

    def start_load(self, plan: LoadPlan, folder: Path) -> Load:
        """Begin sending through the ingress; the recording goes to `folder` (see `measure.samples`)."""
        ...

    def user_probe(self) -> tuple[int, str]:
        """One prediction as a user would ask for it: HTTP status (0: no answer) and what was seen."""
        ...

    def server_counts(self, start: float, end: float) -> ServerCounts | None:
        """The servers' counters over a span of wall time; None when Prometheus cannot answer or holds nothing."""
        ...

    def alerts(self) -> tuple[Alert, ...] | None:
        """What Alertmanager holds; None when it cannot be asked."""
        ...
