"""What a database server is beside its rows: roles, extensions, the definition of everything, and where its sequences stand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
_ROLES = """
SELECT concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
                 rolconnlimit, array(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                                     WHERE m.member = r.oid ORDER BY 1)::text)
FROM pg_roles r WHERE rolname NOT LIKE 'pg\\_%' ORDER BY rolname
"""
_EXTENSIONS = "SELECT extname || ' ' || extversion FROM pg_extension ORDER BY 1"
# One line per definition. Numbers that a server gives by itself (OIDs) never show; what an extension brings is its version.
_DEFINITIONS = """
WITH space AS (
  SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), relation AS (
  SELECT c.*, nspname FROM pg_class c JOIN space s ON s.oid = c.relnamespace
), line (text) AS (
  SELECT format('database %s %s %s %s %s', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datacl)
  FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT format('schema %s %s %s', n.nspname, pg_get_userbyid(nspowner), nspacl)
  FROM pg_namespace n JOIN space USING (oid)
  UNION ALL
  SELECT format('relation %s.%s %s %s %s %s %s %s', nspname, relname, relkind, relpersistence, pg_get_userbyid(relowner), relacl,
                reloptions, CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END)
  FROM relation
  UNION ALL
  SELECT format('column %s.%s.%s %s %s %s %s %s %s', nspname, relname, attname, format_type(atttypid, atttypmod), attnotnull,
                attidentity, attgenerated, attacl, pg_get_expr(adbin, adrelid))
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND attnum > 0 AND NOT attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = attnum
  UNION ALL
  SELECT format('constraint %s.%s.%s %s', nspname, relname, conname, pg_get_constraintdef(k.oid))
  FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid
  UNION ALL
  SELECT format('index %s %s', pg_get_indexdef(indexrelid), indisvalid) FROM relation r JOIN pg_index i ON i.indrelid = r.oid
  UNION ALL
  SELECT format('trigger %s', pg_get_triggerdef(t.oid))
  FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT tgisinternal
  UNION ALL
  SELECT format('function %s %s', pg_get_functiondef(p.oid), proacl)
  FROM pg_proc p JOIN space s ON s.oid = pronamespace WHERE prokind IN ('f', 'p')
  UNION ALL
  SELECT format('label %s.%s %s %s', nspname, typname, enumsortorder, enumlabel)
  FROM pg_enum e JOIN pg_type t ON t.oid = enumtypid JOIN space s ON s.oid = typnamespace
  UNION ALL
  SELECT format('sequence %s.%s %s %s %s %s %s %s', nspname, relname, seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax,
                seqcycle)
  FROM relation r JOIN pg_sequence q ON q.seqrelid = r.oid
)
SELECT text FROM line ORDER BY text COLLATE "C"
"""
_SEQUENCES = """
SELECT sn.nspname, s.relname, tn.nspname, t.relname, attname
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_attribute ON attrelid = t.oid AND attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One server.

    Attributes:
        roles: a line for each role that is not PostgreSQL's own: name, attributes, memberships; no password.
        extensions: name and version, by database.
        definitions: SHA-256 of all definitions, by database.
        sequences: how many sequences belong to a column.
        behind: a sentence for each of them whose next value is in its column already.
    """

    roles: tuple[str, ...]
    extensions: Mapping[str, tuple[str, ...]]
    definitions: Mapping[str, str]
    sequences: int
    behind: tuple[str, ...]


def read(dsn: str, passfile: Path) -> Structure:
    """The structure of a running server.

    Args:
        dsn: of a role that may read everything.
        passfile: libpq password file.

    Raises:
        psycopg.Error: the server cannot be asked.
    """
    extensions, definitions, behind, sequences = dict[str, tuple[str, ...]](), dict[str, str](), list[str](), 0
    with _open(dsn, passfile, "postgres") as connection:
        roles = _column(connection, _ROLES)
        databases = _column(connection, _DATABASES)
    for database in databases:
        with _open(dsn, passfile, database) as connection:
            # Else a name in a definition is written with its schema or without, as the role's own setting has it.
            connection.execute("SET search_path = pg_catalog")
            extensions[database] = _column(connection, _EXTENSIONS)
            definitions[database] = hashlib.sha256("\n".join(_column(connection, _DEFINITIONS)).encode()).hexdigest()
            for owned in connection.execute(_SEQUENCES).fetchall():
                sequences += 1
                behind += [f"{database}: {why}" for why in _behind(connection, *owned)]
    return Structure(
        roles=roles, extensions=extensions, definitions=definitions, sequences=sequences, behind=tuple(behind)
    )  # fmt: skip


def compare(expected: Structure, restored: Structure) -> list[str]:
    """A sentence for each difference between two servers; where sequences stand is none."""
    wrong = [f"role lost: {role}" for role in expected.roles if role not in restored.roles]
    wrong += [f"role invented: {role}" for role in restored.roles if role not in expected.roles]
    for database in sorted({*expected.definitions, *restored.definitions}):
        before, after = expected.definitions.get(database), restored.definitions.get(database)
        if before is None or after is None:
            wrong.append(f"database {database} was {'invented' if before is None else 'lost'}")
            continue
        if expected.extensions[database] != restored.extensions[database]:
            there, back = (", ".join(side.extensions[database]) or "none" for side in (expected, restored))
            wrong.append(f"database {database} has extensions {back} instead of {there}")
        if before != after:
            wrong.append(f"database {database} has other definitions: digest {after[:12]}... instead of {before[:12]}...")
    return wrong


def _behind(connection: psycopg.Connection[Any], *owned: str) -> list[str]:
    space, sequence, table_space, table, column = owned
    # The next value is the last one plus the increment, unless the first one was never taken.
    query = sql.SQL(
        "SELECT q.last_value + CASE WHEN q.is_called THEN seqincrement ELSE 0 END, (SELECT max({column}) FROM {table})"
        " FROM {sequence} q, pg_sequence WHERE seqrelid = {name}::regclass AND seqincrement > 0"
    ).format(
        column=sql.Identifier(column), table=sql.Identifier(table_space, table), sequence=sql.Identifier(space, sequence),
        name=sql.Literal(sql.Identifier(space, sequence).as_string(connection)),
    )  # fmt: skip
    row = connection.execute(query).fetchone()
    if row is None or row[1] is None or row[0] > row[1]:
        return []
    return [f"sequence {space}.{sequence} gives {row[0]} next, and {table_space}.{table}.{column} is at {row[1]}"]


def _open(dsn: str, passfile: Path, database: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(conninfo.make_conninfo(dsn, dbname=database), passfile=str(passfile), connect_timeout=10)


def _column(connection: psycopg.Connection[tuple[Any, ...]], query: str) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in connection.execute(query.encode()))
