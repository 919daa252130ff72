from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from sre.dr import content
from sre.dr.content import Rows, TableDifference, compare
from sre.targets.local.target import LocalTarget

if TYPE_CHECKING:
    from typing import Protocol

    class Scratch(Protocol):
        dsn: str
        passfile: Path

        def execute(self, statement: LiteralString) -> None: ...
        def rows(self) -> Rows: ...


A, B, C, D = b"a", b"b", b"c", b"d"


@pytest.mark.parametrize(
    ("before", "after", "restored", "lost", "invented"),
    [
        pytest.param([A, B], [A, B], [A, B], 0, 0, id="quiet and whole"),
        pytest.param([A, B], [A, B], [A], 1, 0, id="a row is lost"),
        pytest.param([A, B], [A, B], [A, C], 1, 1, id="a row is altered"),
        pytest.param([A, B], [A, B], [A, B, C], 0, 1, id="a row is invented"),
        pytest.param([A, A], [A, A], [A], 1, 0, id="one of two equal rows is lost"),
        pytest.param([A], [A], [A, A], 0, 1, id="a row is doubled"),
        pytest.param([A], [A, B], [A], 0, 0, id="a row written meanwhile may be missing"),
        pytest.param([A], [A, B], [A, B], 0, 0, id="a row written meanwhile may be there"),
        pytest.param([A, B], [A], [A], 0, 0, id="a row deleted meanwhile may be missing"),
        pytest.param([A, B], [A], [A, B], 0, 0, id="a row deleted meanwhile may be there"),
        pytest.param([A, B], [A, C], [A, B], 0, 0, id="a row changed meanwhile may be old"),
        pytest.param([A, B], [A, C], [A, C], 0, 0, id="a row changed meanwhile may be new"),
        pytest.param([A, B], [A, C], [A, D], 0, 1, id="a row changed meanwhile may be nothing else"),
        pytest.param([A], [A], None, 1, 0, id="the table is lost"),
        pytest.param(None, None, [A], 0, 1, id="the table is invented"),
    ],
)
def test_compare(
    before: list[bytes] | None, after: list[bytes] | None, restored: list[bytes] | None, lost: int, invented: int
) -> None:
    def side(rows: list[bytes] | None) -> Rows:
        return {} if rows is None else {"t": Counter(rows)}

    expected = TableDifference(
        before=len(before or ()), after=len(after or ()), restored=len(restored or ()), lost=lost, invented=invented
    )
    assert compare(side(before), side(after), side(restored)) == {"t": expected}


def difference(scratch: Scratch, before: Rows) -> dict[str, tuple[int, int]]:
    now = scratch.rows()
    found = compare(before, before, now)
    return {name.rpartition(".")[2]: (item.lost, item.invented) for name, item in found.items()}


@pytest.mark.local
def test_what_happens_to_real_rows_is_found(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one AS SELECT n, n / 3.0::float4 AS third, now() AS at FROM generate_series(1, 100) AS n")
    scratch.execute("CREATE SCHEMA other; CREATE TABLE other.two AS SELECT * FROM one; CREATE TABLE empty (n int)")
    before = scratch.rows()
    assert sum(rows.total() for rows in before.values()) == 200
    assert difference(scratch, before) == {"one": (0, 0), "two": (0, 0), "empty": (0, 0)}
    scratch.execute("UPDATE one SET third = third + 0.001 WHERE n = 50")
    scratch.execute("DELETE FROM other.two WHERE n IN (7, 8)")
    scratch.execute("INSERT INTO empty VALUES (1)")
    assert difference(scratch, before) == {"one": (1, 1), "two": (2, 0), "empty": (0, 1)}
    scratch.execute("DROP TABLE one")
    assert difference(scratch, before)["one"] == (100, 0)


@pytest.mark.local
def test_settings_of_a_server_do_not_change_its_rows(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE one AS SELECT 0.1::float8 AS f, now() AS at, '\\x00ff'::bytea AS b, current_date AS d")
    before = scratch.rows()
    scratch.execute("ALTER ROLE backup SET timezone = 'Asia/Tokyo'")
    scratch.execute("ALTER ROLE backup SET extra_float_digits = -3")
    scratch.execute("ALTER ROLE backup SET bytea_output = 'escape'")
    scratch.execute("ALTER ROLE backup SET datestyle = 'German'")
    try:
        assert scratch.rows() == before
    finally:
        scratch.execute("ALTER ROLE backup RESET ALL")


@pytest.mark.local
def test_both_databases_of_the_system_are_read_whole(system: LocalTarget) -> None:
    endpoints = system.endpoints
    found = content.rows(endpoints.database, endpoints.passfile)
    assert {name.partition(".")[0] for name in found} == {"mlflow", "predictions"}
    assert found["mlflow.public.model_versions"].total() >= 1
    with psycopg.connect(endpoints.database, passfile=str(endpoints.passfile)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (len([name for name in found if name.startswith("predictions.public.")]),)


def test_a_server_that_is_away_raises(tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError):
        content.rows("postgresql://backup@127.0.0.1:1/x", tmp_path)
