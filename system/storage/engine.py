"""Connections to PostgreSQL, and the migrations that shape it."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen

from system.errors import StorageError

# One arbitrary number, the same in every process that migrates.
_MIGRATION_LOCK = 7_341_905_562
_LOOK_EVERY_S = 0.1
_MIGRATION_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


RV = TypeVar("RV")


class MigrationAltered(StorageError):
    """A migration that is already applied is not the file that was applied."""

    retryable = False


class Impatient(psycopg.Connection):
    """A connection whose every operation ends: a server that is frozen keeps its sockets, and TCP sees nothing wrong with it.

    The server's own `statement_timeout` ends what a healthy server does for too long; this ends what a sick one never will.
    """

    patience_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_EVERY_S, timeout: float | None = None) -> RV:
        """As in psycopg, with a time limit.

        Raises:
            psycopg.OperationalError: nothing came in time; nobody knows what the server did, and the connection is closed.
        """
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - psycopg hands it to whoever gives a time limit
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server gave no answer within {self.patience_s:g} s") from error


def connect(database_url: str, *, application: str, timeout_s: int = 3) -> Impatient:
    """Open a connection on which nothing waits much longer than `timeout_s`, whatever the server or the network does.

    Several hosts in the URL are tried in turn; `target_session_attrs=read-write` in it finds the primary.

    Raises:
        StorageError: no server answers; the message holds no password.
    """
    try:
        connection = Impatient.connect(
            database_url,
            application_name=application,
            connect_timeout=timeout_s,
            tcp_user_timeout=timeout_s * 1000,
            options=f"-c statement_timeout={timeout_s * 1000}",
        )
    except psycopg.Error as error:
        raise StorageError(f"the database of ML_DATABASE_URL cannot be used: {str(error).strip()}") from None
    # A second more than the server takes to give up by itself.
    connection.patience_s = timeout_s + 1
    return connection


def migrate(database_url: str, *, lock_timeout_s: int = 60) -> list[str]:
    """Apply the migrations that the database lacks, in order, each in its own transaction.

    Processes that migrate at the same time take turns. Migrations only go forward: an error is repaired by the next one.

    Returns:
        the names applied now; empty when there was nothing to do.

    Raises:
        MigrationAltered: an applied file has changed since.
        StorageError: the database cannot be used, or a migration fails; everything before it stays applied.
    """
    applied: list[str] = []
    with connect(database_url, application="migrate") as connection:
        try:
            connection.autocommit = True
            connection.patience_s = None
            connection.execute("SELECT set_config('statement_timeout', '0', false)")
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{lock_timeout_s}s"])
            connection.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations"
                " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            known: dict[str, str] = dict(connection.execute("SELECT name, sha256 FROM schema_migrations").fetchall())
            for name, statements in migrations():
                checksum = hashlib.sha256(statements).hexdigest()
                if name in known and known[name] != checksum:
                    raise MigrationAltered(
                        f"migration {name} has changed since it was applied; restore the file and add a new one"
                    )
                if name not in known:
                    with connection.transaction():
                        connection.execute(statements)
                        connection.execute("INSERT INTO schema_migrations (name, sha256) VALUES (%s, %s)", [name, checksum])
                    applied.append(name)
        except psycopg.Error as error:
            raise StorageError(f"migrating stopped after {applied or 'nothing'}: {str(error).strip()}") from error
    return applied


def migrations() -> list[tuple[str, bytes]]:
    """Name and text of every migration, in the order of their numbers, which have no gap."""
    files = [file for file in resources.files("system.storage.migrations").iterdir() if file.name.endswith(".sql")]
    found = sorted((file.name, file.read_bytes()) for file in files)
    for number, (name, _) in enumerate(found, start=1):
        match = _MIGRATION_NAME.fullmatch(name)
        if match is None or int(match[1]) != number:
            raise StorageError(f"migration {name} should be number {number:04} in the form 0001_what_it_does.sql")
    return found
