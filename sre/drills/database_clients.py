"""Clients of the database while it is being hurt: writers with a ledger, and those who ask a member directly."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg

from sre.errors import CannotRun
from sre.judges.history import Row
from sre.load import writers
from sre.probes import sql
from sre.probes.prometheus import Prometheus
from sre.readings import Endpoints, LoadPlan
from sre.targets.base import Load, Target
from sre.targets.local.target import LocalTarget

WRITERS = 4
_ASK_WITHIN_S = 3
_DROPPED = "sum(model_prediction_records_dropped_total)"
# A message in the WAL that belongs to no table: the least that a server can write.
_LEAST_WRITE = "SELECT pg_logical_emit_message(true, 'drill', 'is there room?')::text"


class Writing(Protocol):
    """Writers under way; see `load.writers.Writing`."""

    def running(self) -> bool:
        """Whether they still write."""
        ...

    def stop(self) -> None:
        """End them. Raises StepFailed when they had died. Idempotent."""
        ...

    def wait(self) -> None:
        """Wait for their end. Raises as `stop` does."""
        ...


class Clients(Protocol):
    """What a database drill asks of the system as its clients do; nothing here is told of a fault."""

    def write(self, run: str, plan: LoadPlan, folder: Path) -> Writing:
        """Begin writers; their ledger goes to `folder` (see `load.ledger_file`). `rate` is of all together."""
        ...

    def rows(self, run: str) -> list[Row]:
        """What the primary holds of a run. Raises psycopg.Error when it cannot be asked."""
        ...

    def asked(self, member: str) -> str:
        """Why one member's server answers no query, in words; empty when it does."""
        ...

    def refused(self, member: str) -> str:
        """Why one member's server takes no write, in words; empty when it does."""
        ...

    def received(self, member: str) -> int | None:
        """Up to where a standby has received the primary's changes, bytes; None when it does not say."""
        ...

    def written(self, member: str) -> int | None:
        """Up to where a primary has written changes, bytes; None when it does not say."""
        ...

    def recorded(self, since: float) -> int:
        """Predictions in the log since a wall time, each request once. Raises psycopg.Error when it cannot be asked."""
        ...

    def dropped(self) -> float | None:
        """Predictions that the replicas say never reached the log, since they began; None when Prometheus cannot say."""
        ...


class RealClients:
    """Clients on this machine.

    Args:
        primary: libpq connection string of whichever member takes writes, for the role of drills.
        one: the same for a member alone, by its name.
        endpoints: of the system; the password file is for all of these.
    """

    def __init__(self, primary: str, one: Callable[[str], str], endpoints: Endpoints) -> None:
        self._primary = primary
        self._one = one
        self._endpoints = endpoints
        self._passfile = str(endpoints.passfile)

    def write(self, run: str, plan: LoadPlan, folder: Path) -> Writing:
        """Begin a process of writers."""
        job = writers.Job(
            dsn=self._primary, passfile=self._passfile, run=run, writers=WRITERS,
            rate=plan.rate / WRITERS, seconds=plan.seconds, seed=plan.seed, ledger=str(folder / writers.LEDGER_NAME),
            parent=os.getpid(),
        )  # fmt: skip
        return writers.start(job, folder)

    def rows(self, run: str) -> list[Row]:
        """From the primary."""
        return writers.rows(self._primary, self._passfile, run)

    def asked(self, member: str) -> str:
        """Ask for nothing in particular."""
        return self._ask(member, "SELECT 1")[1]

    def refused(self, member: str) -> str:
        """Write the least that can be written."""
        return self._ask(member, _LEAST_WRITE)[1]

    def received(self, member: str) -> int | None:
        """From the standby itself."""
        return self._position(member, "pg_last_wal_receive_lsn()")

    def written(self, member: str) -> int | None:
        """From the primary itself."""
        return self._position(member, "pg_current_wal_insert_lsn()")

    def recorded(self, since: float) -> int:
        """From the primary."""
        return sql.predictions_since(self._endpoints, since)

    def dropped(self) -> float | None:
        """From Prometheus."""
        return Prometheus(self._endpoints.prometheus).value(_DROPPED)

    def _position(self, member: str, function: str) -> int | None:
        found, _ = self._ask(member, f"SELECT pg_wal_lsn_diff({function}, '0/0')::bigint")
        return None if found is None else int(found)

    def _ask(self, member: str, query: str) -> tuple[Any, str]:
        try:
            with psycopg.connect(
                self._one(member), passfile=self._passfile, connect_timeout=_ASK_WITHIN_S, autocommit=True
            ) as connection:
                # A frozen server's kernel acknowledges on, and no limit of the server's ends a wait for a standby.
                deadline = threading.Timer(_ASK_WITHIN_S, _cut, [connection])
                deadline.start()
                try:
                    row = connection.execute(query.encode()).fetchone()
                finally:
                    deadline.cancel()
        except psycopg.Error as error:
            # The lines that follow guess at causes.
            return None, str(error).strip().partition("\n")[0].strip() or type(error).__name__
        return (row[0] if row else None), ""


class Together:
    """Users and writers as one load: it runs while both do, and stops both whatever becomes of the first."""

    def __init__(self, users: Load, writing: Writing) -> None:
        self._users = users
        self._writing = writing

    def running(self) -> bool:
        """Whether both still go on."""
        return self._users.running() and self._writing.running()

    def progress(self) -> str:
        """What the users did."""
        return self._users.progress()

    def show(self, key: str) -> None:
        """Let the users show another key."""
        self._users.show(key)

    def stop(self) -> None:
        """End both. Raises StepFailed when one had died."""
        try:
            self._writing.stop()
        finally:
            self._users.stop()

    def wait(self) -> None:
        """Wait for the end of both. Raises as `stop` does."""
        try:
            self._writing.wait()
        finally:
            self._users.wait()


def clients_of(target: Target) -> Clients:
    """The clients of a target.

    Raises:
        CannotRun: nobody knows how to reach its database.
    """
    if isinstance(target, LocalTarget):
        layout = target.layout
        return RealClients(
            layout.dsn("drills", "drills"), lambda member: layout.dsn_of(member, "drills", "drills"), target.endpoints
        )
    return _on_cluster(target)


def _on_cluster(target: Target) -> Clients:
    from sre.targets.kubernetes.target import KubernetesTarget  # noqa: PLC0415 - slow to import

    if isinstance(target, KubernetesTarget):
        access, endpoints = target.reached()
        return RealClients(access.dsn("drills", "drills"), lambda member: access.dsn_of(member, "drills", "drills"), endpoints)
    raise CannotRun(f"target {target.name} has no database that a client of this machine could reach; use target local")


def _cut(connection: psycopg.Connection[Any]) -> None:
    # It may have ended by itself just now.
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
