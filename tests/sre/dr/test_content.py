from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from sre.dr import content
from sre.dr.content import TableDifference, compare
from sre.dr.sets import Table
from sre.targets.local.target import LocalTarget

if TYPE_CHECKING:
    from typing import Protocol

    class Scratch(Protocol):
        dsn: str
        passfile: Path

        def execute(self, statement: LiteralString) -> None: ...
        def tables(self, key: str = "key") -> dict[str, Table]: ...


A, B = Table(rows=2, checksum="12"), Table(rows=2, checksum="13")


@pytest.mark.parametrize(
    ("expected", "restored", "different"),
    [
        pytest.param({"t": A}, {"t": A}, {}, id="the same"),
        pytest.param({"t": A}, {"t": B}, {"t": TableDifference(expected=A, restored=B)}, id="altered"),
        pytest.param({"t": A}, {}, {"t": TableDifference(expected=A, restored=None)}, id="the table is lost"),
        pytest.param({}, {"t": A}, {"t": TableDifference(expected=None, restored=A)}, id="the table is invented"),
        pytest.param({}, {}, {}, id="nothing"),
    ],
)
def test_compare(expected: dict[str, Table], restored: dict[str, Table], different: dict[str, TableDifference]) -> None:
    assert compare(expected, restored) == different


def changed(scratch: Scratch, before: dict[str, Table]) -> set[str]:
    return {name.rpartition(".")[2] for name in compare(before, scratch.tables())}


@pytest.mark.local
def test_what_happens_to_real_rows_is_found(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one AS SELECT n, n / 3.0::float4 AS third, now() AS at FROM generate_series(1, 100) AS n")
    scratch.execute("CREATE SCHEMA other; CREATE TABLE other.two AS SELECT * FROM one; CREATE TABLE empty (n int)")
    scratch.execute("CREATE TABLE pair AS SELECT 1 AS n FROM generate_series(1, 2)")
    before = scratch.tables()
    assert sum(table.rows for table in before.values()) == 202
    assert changed(scratch, before) == set()
    scratch.execute("UPDATE one SET third = third + 0.001 WHERE n = 50")
    assert changed(scratch, before) == {"one"}
    scratch.execute("DELETE FROM other.two WHERE n IN (7, 8)")
    scratch.execute("INSERT INTO empty VALUES (1)")
    scratch.execute("DELETE FROM pair WHERE ctid = (SELECT ctid FROM pair LIMIT 1)")
    assert changed(scratch, before) == {"one", "two", "empty", "pair"}
    scratch.execute("DROP TABLE one")
    assert changed(scratch, before) == {"one", "two", "empty", "pair"}


@pytest.mark.local
def test_the_order_of_rows_does_not_count_and_the_key_does(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one AS SELECT n FROM generate_series(1, 50) AS n")
    before = scratch.tables()
    scratch.execute("CREATE TABLE two AS SELECT n FROM one ORDER BY n DESC; DROP TABLE one; ALTER TABLE two RENAME TO one")
    assert scratch.tables() == before
    assert scratch.tables("another") != before


@pytest.mark.local
def test_settings_of_a_server_do_not_change_its_figures(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one AS SELECT 0.1::float8 AS f, now() AS at, '\\x00ff'::bytea AS b, current_date AS d")
    before = scratch.tables()
    scratch.execute("ALTER ROLE backup SET timezone = 'Asia/Tokyo'")
    scratch.execute("ALTER ROLE backup SET extra_float_digits = -3")
    scratch.execute("ALTER ROLE backup SET bytea_output = 'escape'")
    scratch.execute("ALTER ROLE backup SET datestyle = 'German'")
    try:
        assert scratch.tables() == before
    finally:
        scratch.execute("ALTER ROLE backup RESET ALL")


@pytest.mark.local
def test_a_frozen_moment_stays_as_it_was_and_holds_up_nobody(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one AS SELECT n FROM generate_series(1, 10) AS n")
    before = scratch.tables()
    with content.freeze(scratch.dsn, scratch.passfile, "test-moment") as frozen:
        scratch.execute("INSERT INTO one VALUES (11)")
        assert content.tables(scratch.dsn, scratch.passfile, "key", frozen.snapshots) == before
    assert frozen.marker == "test-moment"
    assert scratch.tables() != before


@pytest.mark.local
def test_what_is_being_written_is_wholly_in_a_moment_or_not_at_all(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one (n int)")
    with psycopg.connect(scratch.dsn, passfile=str(scratch.passfile)) as writer:
        writer.execute("INSERT INTO one SELECT generate_series(1, 5)")
        ender = threading.Timer(0.5, writer.commit)
        ender.start()
        # The moment waits for the writer, which holds a lock until its rows are to be seen.
        with content.freeze(scratch.dsn, scratch.passfile, "test-writer") as frozen:
            found = content.tables(scratch.dsn, scratch.passfile, "key", frozen.snapshots)
        ender.join()
    assert [table.rows for table in found.values()] == [5]


@pytest.mark.local
def test_a_table_that_somebody_holds_is_not_waited_for_without_end(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_LOCK_WITHIN_MS", 100)
    scratch.execute("CREATE TABLE one (n int)")
    with psycopg.connect(scratch.dsn, passfile=str(scratch.passfile)) as holder:
        holder.execute("LOCK TABLE one")
        with pytest.raises(psycopg.errors.LockNotAvailable), content.freeze(scratch.dsn, scratch.passfile, "test-held"):
            pass


@pytest.mark.local
def test_every_database_of_the_system_is_read_whole(system: LocalTarget) -> None:
    endpoints = system.endpoints
    found = content.tables(endpoints.database, endpoints.passfile, "key")
    assert {name.partition(".")[0] for name in found} >= {"mlflow", "predictions"}
    assert found["mlflow.public.model_versions"].rows >= 1
    with psycopg.connect(endpoints.database, passfile=str(endpoints.passfile)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (len([name for name in found if name.startswith("predictions.public.")]),)


def test_a_server_that_is_away_raises(tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError):
        content.tables("postgresql://backup@127.0.0.1:1/x", tmp_path, "key")
