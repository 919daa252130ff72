from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest
from psycopg import conninfo

from sre.dr import structure
from tests.sre.dr.conftest import Origin, Server

pytestmark = pytest.mark.local

NAME = "shaped"
MADE: LiteralString = """
CREATE TABLE parents (id bigserial PRIMARY KEY, name text NOT NULL DEFAULT 'none' CHECK (name <> ''));
CREATE TABLE children (id int GENERATED ALWAYS AS IDENTITY, parent bigint REFERENCES parents);
CREATE INDEX children_parent ON children (parent);
CREATE VIEW named AS SELECT name FROM parents;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
INSERT INTO parents (name) VALUES ('a'), ('b');
INSERT INTO children (parent) VALUES (1)
"""


@pytest.fixture
def shaped(origin: Origin) -> Iterator[Server]:
    server = origin.server
    with server.connect() as connection:
        connection.execute("CREATE ROLE keeper")
        connection.execute("CREATE DATABASE shaped OWNER keeper")
    execute(server, MADE)
    yield server
    with server.connect() as connection:
        connection.execute("DROP DATABASE shaped WITH (FORCE)")
        connection.execute("DROP ROLE keeper")
        connection.execute("DROP ROLE IF EXISTS other")


def execute(server: Server, statements: LiteralString) -> None:
    dsn = conninfo.make_conninfo(server.dsn, dbname=NAME)
    with psycopg.connect(dsn, passfile=str(server.passfile), autocommit=True) as connection:
        for statement in statements.split(";"):
            connection.execute(statement)


def read(server: Server) -> structure.Structure:
    return structure.read(server.dsn, server.passfile)


def test_the_same_server_twice_has_no_difference(shaped: Server) -> None:
    first, second = read(shaped), read(shaped)
    assert structure.compare(first, second) == []
    assert set(first.definitions) == {"postgres", NAME}
    assert (first.sequences, first.behind) == (2, ())
    assert first.extensions[NAME] == ("plpgsql 1.0",)


def test_rows_are_no_part_of_it(shaped: Server) -> None:
    before = read(shaped)
    execute(shaped, "INSERT INTO parents (name) VALUES ('c'); ANALYZE parents")
    assert structure.compare(before, read(shaped)) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE parents ADD extra int",
        "ALTER TABLE parents ALTER name DROP NOT NULL",
        "ALTER TABLE parents ALTER name SET DEFAULT 'all'",
        "ALTER TABLE parents ALTER name TYPE varchar(9) USING name; CREATE VIEW other AS SELECT 1",
        "ALTER TABLE parents DROP CONSTRAINT parents_name_check",
        "ALTER TABLE parents OWNER TO keeper",
        "ALTER TABLE children SET UNLOGGED",
        "GRANT SELECT ON parents TO keeper",
        "GRANT SELECT (name) ON parents TO keeper",
        "GRANT CREATE ON SCHEMA public TO keeper",
        "GRANT TEMPORARY ON DATABASE shaped TO keeper",
        "ALTER TABLE children DROP CONSTRAINT children_parent_fkey",
        "DROP INDEX children_parent",
        "DROP INDEX children_parent; CREATE INDEX children_parent ON children (parent DESC)",
        "CREATE OR REPLACE VIEW named AS SELECT upper(name) AS name FROM parents",
        "ALTER TYPE mood ADD VALUE 'fair' BEFORE 'bad'",
        "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "ALTER SEQUENCE parents_id_seq INCREMENT 2",
        "CREATE TRIGGER checks BEFORE UPDATE ON parents FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
def test_every_other_definition_is_a_difference(shaped: Server, change: LiteralString) -> None:
    before = read(shaped)
    if "TYPE varchar" in change:
        execute(shaped, "DROP VIEW named")
    execute(shaped, change)
    (wrong,) = structure.compare(before, read(shaped))
    assert wrong.startswith("database shaped has other definitions")


def test_roles_databases_and_extensions_are_named(shaped: Server) -> None:
    before = read(shaped)
    with shaped.connect() as connection:
        connection.execute("ALTER ROLE keeper CREATEDB")
        connection.execute("CREATE ROLE other")
        connection.execute("GRANT pg_monitor TO other")
    execute(shaped, "CREATE EXTENSION amcheck")
    after = read(shaped)
    wrong = structure.compare(before, after)
    assert [line.partition(":")[0] for line in wrong[:3]] == ["role lost", "role invented", "role invented"]
    assert "database shaped has extensions amcheck 1.3, plpgsql 1.0 instead of plpgsql 1.0" in wrong
    assert "{pg_monitor}" in next(role for role in after.roles if role.startswith("other"))
    smaller = replace(before, definitions={"postgres": before.definitions["postgres"]})
    assert structure.compare(before, smaller) == ["database shaped was lost"]
    assert structure.compare(smaller, before) == ["database shaped was invented"]


@pytest.mark.parametrize("start", ["ALTER SEQUENCE parents_id_seq RESTART WITH 2", "SELECT setval('parents_id_seq', 1)"])
def test_a_sequence_behind_its_column_is_named(shaped: Server, start: LiteralString) -> None:
    execute(shaped, start)
    assert read(shaped).behind == ("shaped: sequence public.parents_id_seq gives 2 next, and public.parents.id is at 2",)


def test_a_sequence_that_was_never_used_is_ahead_of_an_empty_column(shaped: Server) -> None:
    execute(shaped, "TRUNCATE parents, children RESTART IDENTITY")
    assert read(shaped).behind == ()


def test_a_server_that_is_away_is_an_error(shaped: Server) -> None:
    with pytest.raises(psycopg.Error):
        structure.read(f"host={shaped.private} port=1 user=postgres", shaped.passfile)
