"""What a drill may ask of the place where the system runs, and of those who watch it there.

`Target` changes things: it kills, pauses, backs up. `Observers` only look, and none of them took part in a change: a user at
the ingress, Prometheus, Alertmanager. Real targets share one set of observers (`sre.drills.world`); the memory target is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from sre.clock import Clock
from sre.errors import UsageError
from sre.readings import Alert, LoadPlan, Member, Node, Replica, Scale, ServerCounts, Split
from sre.targets.backups import Site, VolumeBackups
from sre.targets.keys import ApiKeys
from sre.targets.network import Network

Removal = Literal["delete", "evict"]


class Capability(StrEnum):
    """What a target can do beyond serving; a drill names those that it needs."""

    REPLICAS = "replicas"
    ALERTS = "alerts"
    BACKUPS = "backups"
    TRAINING = "training"
    DATABASE_CLUSTER = "database-cluster"
    WEIGHTS = "weights"
    NODES = "nodes"
    PODS = "pods"
    ROLLOUTS = "rollouts"
    SCALING = "scaling"
    CABLES = "cables"
    STORES = "stores"
    VOLUME_BACKUPS = "volume-backups"
    NETWORK = "network"
    KEYS = "keys"
    REBUILD = "rebuild"


class Load(Protocol):
    """A running load."""

    def running(self) -> bool:
        """Whether it still sends or waits for answers."""
        ...

    def progress(self) -> str:
        """One short line for people: sent, failed."""
        ...

    def show(self, key: str) -> None:
        """Let every request from now on show this API key; returns when that is so.

        Raises:
            StepFailed: it does not send, or did not take the key.
        """
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


class DatabaseCluster(Protocol):
    """Database members that replace each other, and what a drill may do to them.

    A member's host also carries what holds its place in their agreement: a member of the store in which they agree or, where the
    platform is the store, its agent. Every method raises UsageError for an unknown name and StepFailed when there is nothing to
    act upon; those that take something back have no effect when it is not changed. `cut` and `lose_store` raise CannotRun on a
    target without cables or stores.
    """

    @property
    def synchronous(self) -> bool:
        """Whether a commit waits for a standby."""
        ...

    def members(self) -> tuple[Member, ...]:
        """All members, by name."""
        ...

    def primary(self) -> Member | None:
        """The primary that the cluster agrees on; None while there is none."""
        ...

    def store_trouble(self, member: str) -> str:
        """Why the store or the agent on its host takes part in no agreement, in words; empty when it does."""
        ...

    def volume(self, member: str) -> str:
        """Changes when its data lie on another volume; empty while there is none."""
        ...

    def crash(self, member: str) -> None:
        """SIGKILL its database server; its agent lives on."""
        ...

    def freeze(self, member: str) -> None:
        """SIGSTOP its database server: connections stay open and nothing is answered."""
        ...

    def thaw(self, member: str) -> None:
        """End a freeze."""
        ...

    def lose(self, member: str) -> None:
        """End everything on its host at once; nothing there starts again until `bring_back`."""
        ...

    def bring_back(self, member: str) -> None:
        """Let everything on its host start again."""
        ...

    def lose_volume(self, member: str) -> None:
        """Delete its data while its host is off, which then starts with an empty volume."""
        ...

    def cut(self, member: str) -> None:
        """Pull its host's cable: it runs on, and nothing reaches it or comes from it."""
        ...

    def mend(self) -> None:
        """Put every cable back."""
        ...

    def lose_store(self, members: Sequence[str]) -> None:
        """End the store's members on these hosts at once; they do not start again until `bring_back`."""
        ...

    def refuse_writes(self, member: str) -> None:
        """Let every write of its database server to a file fail, as on a full disk."""
        ...

    def allow_writes(self, member: str) -> None:
        """End that."""
        ...

    def hold_back(self, member: str) -> None:
        """Stop what receives the primary's changes on a standby, so that it lags."""
        ...

    def catch_up(self, member: str) -> None:
        """End that."""
        ...

    def switch_over(self, to: str) -> None:
        """Ask for another primary in good order; returns when the cluster has agreed, before clients have moved."""
        ...


class Nodes(Protocol):
    """The nodes that replicas run on, and the ways in which a drill may lose one; see `faults.node.KINDS`."""

    def all(self) -> tuple[Node, ...]:
        """All nodes, by name."""
        ...

    def check(self, how: str) -> None:
        """Whether a node can be lost in this way and be brought back.

        Raises:
            CannotRun: not here; the message names what is missing.
        """
        ...

    def lose(self, node: str, how: str) -> None:
        """Lose a node. Raises UsageError for an unknown name, StepFailed when it was not done."""
        ...

    def bring_back(self, node: str, how: str) -> None:
        """Take that back. Has no effect on a node that is not lost; returns before the node is ready again."""
        ...


class Router(Protocol):
    """A second version beside the one in production, its control, and who gets how much of the traffic.

    The canary serves a candidate. The control is begun with it and serves what is in production. Neither gets traffic until
    `shift` says so; what one of them does not answer goes to a replica in production. Every method returns when it has taken
    effect and raises StepFailed at its deadline, saying what it last saw.
    """

    def begin(self, version: str) -> None:
        """Start canary and control, without traffic; both are ready when this returns.

        Raises:
            UsageError: the registry has no such version, or there is a canary already.
        """
        ...

    def shift(self, canary: float, control: float) -> None:
        """Give each its share of the traffic, 0 to 1; the replicas in production get the rest. No request is dropped.

        Raises:
            UsageError: there is no canary, or these are no shares.
        """
        ...

    def split(self) -> Split | None:
        """What is in force just now; None while there is no canary."""
        ...

    def promote(self) -> None:
        """Put the candidate into production: all replicas serve it when this returns. The shares stay as they are.

        Raises:
            UsageError: there is no canary.
        """
        ...

    def demote(self, version: str) -> None:
        """Put a version into production that was there before; has no effect when it is there.

        Raises:
            UsageError: the registry has no such version.
        """
        ...

    def end(self) -> None:
        """Take the traffic of canary and control back, then end both. Has no effect when there is none."""
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

    @property
    def database(self) -> DatabaseCluster:
        """The database cluster. Raises CannotRun on a target without the capability."""
        ...

    @property
    def router(self) -> Router:
        """Who splits the traffic. Raises CannotRun on a target without the capability."""
        ...

    @property
    def nodes(self) -> Nodes:
        """The nodes. Raises CannotRun on a target without the capability."""
        ...

    def remove(self, replica: str, how: Removal) -> None:
        """Take a replica's pod away; the platform begins another.

        Args:
            replica: its name.
            how: `delete` without grace, or `evict`, which asks disruption budgets first and lets it drain.

        Raises:
            CannotRun: on a target without the capability `pods`.
            UsageError: for an unknown name.
            StepFailed: it was refused.
        """
        ...

    def roll_out(self) -> None:
        """Begin to replace every replica in good order, as a release does. Raises CannotRun without the capability."""
        ...

    def scale(self) -> Scale:
        """How many replicas there are and should be. Raises CannotRun on a target without the capability."""
        ...

    @property
    def volumes(self) -> VolumeBackups:
        """Who backs up namespaces with their volumes. Raises CannotRun on a target without the capability."""
        ...

    @property
    def network(self) -> Network:
        """Who can reach whom. Raises CannotRun on a target without the capability."""
        ...

    @property
    def keys(self) -> ApiKeys:
        """The API keys that replicas accept."""
        ...

    @property
    def site(self) -> Site:
        """The cluster as a whole. Raises CannotRun on a target without the capability."""
        ...

    def kill(self, replica: str) -> None:
        """End a replica at once by SIGKILL. Raises UsageError for an unknown name."""
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

    def start_load(self, plan: LoadPlan, folder: Path, key: str | None = None) -> Load:
        """Begin sending through the ingress; the recording goes to `folder` (see `measure.samples`).

        Args:
            plan: the schedule.
            folder: of the recording; no key is written there.
            key: API key that users show; that of all drills when None.
        """
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


def check_shares(canary: float, control: float) -> None:
    """Whether the shares can be given.

    Raises:
        UsageError: one is not between 0 and 1, or both together are more than 1.
    """
    if not (0 <= canary <= 1 and 0 <= control <= 1 and canary + control <= 1 + 1e-9):
        raise UsageError(
            f"shares of {canary:g} and {control:g} cannot be given; use numbers from 0 to 1 that add up to at most 1"
        )
