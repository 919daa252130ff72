"""What a drill may ask of the place where the system runs, and of those who watch it there.

`Target` changes things: it kills, pauses, backs up. `Observers` only look, and none of them took part in a change: a user at
the ingress, Prometheus, Alertmanager. Real targets share one set of observers (`sre.drills.world`); the memory target is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from sre.clock import Clock
from sre.readings import Alert, LoadPlan, Replica, ServerCounts


class Capability(StrEnum):
    """What a target can do beyond serving; a drill names those that it needs."""

    REPLICAS = "replicas"
    ALERTS = "alerts"
    BACKUPS = "backups"
    TRAINING = "training"


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

    @property
    def resend_s(self) -> float:
        """After how long the ingress sends an unanswered request to another replica, s."""
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
