"""What a database holds, row by row, as checksums: so that two databases can be compared without trusting either."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

DATABASES = ("mlflow", "predictions")
Rows = dict[str, Counter[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDifference:
    """One table before a backup, after it, and as restored.

    Attributes:
        before, after, restored: rows.
        lost: rows of before that are not in restored.
        invented: rows of restored that were in neither.
    """

    before: int
    after: int
    restored: int
    lost: int
    invented: int


def rows(dsn: str, passfile: Path) -> Rows:
    """MD5 of every row of every table, by `database.schema.table`; each database in one snapshot.

    MD5 tells altered rows from equal ones here; it does not defend against someone who forges them.

    Args:
        dsn: connection string of the server; its database name is replaced.
        passfile: libpq password file.

    Raises:
        psycopg.Error: the server cannot be asked.
    """
    found: Rows = {}
    for database in DATABASES:
        url = f"{dsn.rpartition('/')[0]}/{database}"
        with psycopg.connect(url, passfile=str(passfile), connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            # The text of a row must not depend on the server's settings.
            connection.execute("SET TIME ZONE 'UTC'; SET extra_float_digits = 3; SET datestyle = 'ISO'; SET bytea_output = 'hex'")
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
            ).fetchall()
            for schema, table in tables:
                query = sql.SQL("SELECT decode(md5(t::text), 'hex') FROM {} AS t").format(sql.Identifier(schema, table))
                found[f"{database}.{schema}.{table}"] = Counter(bytes(row[0]) for row in connection.execute(query))
    return found


def compare(before: Rows, after: Rows, restored: Rows) -> dict[str, TableDifference]:
    """Every table of any of the three.

    A backup taken while rows are written holds at least what was there before it began, and at most what was there after it
    ended. What changed meanwhile may be in either state.
    """
    empty: Counter[bytes] = Counter()
    result = {}
    for table in sorted({*before, *after, *restored}):
        first, last, back = (side.get(table, empty) for side in (before, after, restored))
        kept = first & last
        result[table] = TableDifference(
            before=first.total(),
            after=last.total(),
            restored=back.total(),
            lost=(kept - back).total(),
            invented=(back - (first | last)).total(),
        )
    return result
