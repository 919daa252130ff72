"""What a database holds, table by table, as rows and a keyed checksum: two databases are compared without trusting either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

from sre.dr.sets import Table

DATABASES = ("drills", "mlflow", "predictions")
# Writers are held up for as long as a snapshot takes; a table that somebody holds longer is not waited for.
_LOCK_WITHIN_MS = 5000
_TABLES = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
# The text of a row must not depend on the server's settings.
_TEXT = "SET LOCAL TIME ZONE 'UTC'; SET LOCAL extra_float_digits = 3; SET LOCAL datestyle = 'ISO'; SET LOCAL bytea_output = 'hex'"
_FIGURES = (
    "SELECT count(*), coalesce(sum(('x' || left(md5({key} || t::text), 16))::bit(64)::bigint::numeric), 0)::text"
    " FROM {table} AS t"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frozen:
    """One moment of all databases.

    Attributes:
        marker: name of the restore point that marks the very same moment in the WAL.
        lsn: its place.
        at: when, seconds since the Unix epoch.
        snapshots: of PostgreSQL, by database; usable while the moment is held.
    """

    marker: str
    lsn: str
    at: float
    snapshots: Mapping[str, str]


@contextmanager
def freeze(dsn: str, passfile: Path, marker: str) -> Iterator[Frozen]:
    """Mark one moment in the WAL and in every database at once, and hold the snapshots while the caller reads them.

    Every table is locked against writing while the marker is made, so a restore to the marker holds exactly what the snapshots
    show. The locks last some milliseconds; the snapshots block nobody.

    Args:
        dsn: of a superuser, since only who may write a table may lock it.
        passfile: libpq password file.
        marker: a name not used before.

    Raises:
        psycopg.Error: the server cannot be asked, or a table stayed locked by another for too long.
    """
    with ExitStack() as held:
        readers = {name: held.enter_context(_open(dsn, passfile, name)) for name in DATABASES}
        with ExitStack() as locked:
            lockers = {name: locked.enter_context(_open(dsn, passfile, name)) for name in DATABASES}
            for locker in lockers.values():
                locker.execute(f"SET lock_timeout = {_LOCK_WITHIN_MS}")
                names = locker.execute(_TABLES).fetchall()
                locker.commit()
                if names:
                    every = sql.SQL(", ").join([sql.Identifier(schema, table) for schema, table in names])
                    locker.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(every))
            row = (
                next(iter(lockers.values()))
                .execute("SELECT pg_create_restore_point(%s)::text, extract(epoch FROM clock_timestamp())::float8", [marker])
                .fetchone()
            )
            snapshots = {}
            for name, reader in readers.items():
                reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                exported = reader.execute("SELECT pg_export_snapshot()").fetchone()
                snapshots[name] = str(exported[0]) if exported else ""
        if row is None:
            raise psycopg.DataError("pg_create_restore_point answered nothing")
        yield Frozen(marker, str(row[0]), float(row[1]), snapshots)


def tables(dsn: str, passfile: Path, key: str, snapshots: Mapping[str, str] | None = None) -> dict[str, Table]:
    """Rows and checksum of every table, by `database.schema.table`.

    The checksum adds up a keyed MD5 of each row's text, so it does not depend on the order of rows. It tells altered rows from
    equal ones; it does not defend against someone who knows the key and forges them.

    Args:
        dsn: of a role that may read everything.
        passfile: libpq password file.
        key: figures of different keys cannot be compared.
        snapshots: of `freeze`; None reads what there is now.

    Raises:
        psycopg.Error: the server cannot be asked.
    """
    found: dict[str, Table] = {}
    for database in DATABASES:
        with _open(dsn, passfile, database) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            if snapshots is not None:
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshots[database])))
            connection.execute(_TEXT)
            for schema, table in connection.execute(_TABLES).fetchall():
                query = sql.SQL(_FIGURES).format(key=sql.Literal(key), table=sql.Identifier(schema, table))
                row = connection.execute(query).fetchone()
                if row:
                    found[f"{database}.{schema}.{table}"] = Table(rows=row[0], checksum=row[1])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDifference:
    """One table as it was backed up, and as restored; None where it is not."""

    expected: Table | None
    restored: Table | None


def compare(expected: Mapping[str, Table], restored: Mapping[str, Table]) -> dict[str, TableDifference]:
    """The tables that differ; empty when every table came back as it was."""
    return {
        name: TableDifference(expected=expected.get(name), restored=restored.get(name))
        for name in sorted({*expected, *restored})
        if expected.get(name) != restored.get(name)
    }


def _open(dsn: str, passfile: Path, database: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(conninfo.make_conninfo(dsn, dbname=database), passfile=str(passfile), connect_timeout=10)
