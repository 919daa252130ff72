from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.dr import scan
from sre.dr.recovery import LATEST, wait_for_target
from sre.errors import StepFailed
from tests.sre.dr.conftest import ACCOUNT, Origin, Server

pytestmark = pytest.mark.local


@pytest.fixture
def restored(origin: Origin, folder: Path) -> Iterator[Server]:
    """A running copy with a table of some blocks."""
    server = origin.restored(folder / "data")
    origin.stanza.restore(server.data, LATEST)
    server.start()
    wait_for_target(server.dsn, server.passfile, server.log, LATEST, within_s=180)
    with server.connect() as connection:
        connection.execute("CREATE TABLE filled AS SELECT g AS n, repeat('x', 500) AS words FROM generate_series(1, 200) AS g")
        connection.execute("CREATE INDEX filled_n ON filled (n)")
        connection.execute("CHECKPOINT")
    yield server
    server.stop()


def relations(server: Server) -> list[str]:
    return [str(item) for item in scan.relations(server.postgres, server.dsn, server.passfile, account=ACCOUNT)]


def spoil(server: Server, relation: str, block: int, size: int = 64) -> str:
    """Overwrite the middle of a block of the stopped server's file; returns the file's name."""
    with server.connect() as connection:
        row = connection.execute("SELECT pg_relation_filepath(%s)", [relation]).fetchone()
    server.stop()
    assert row
    with (server.data / row[0]).open("r+b") as file:
        file.seek(block * 8192 + 4000)
        file.write(b"\xa5" * size)
    return str(row[0])


def test_a_whole_database_has_no_damage(restored: Server) -> None:
    assert relations(restored) == []
    restored.stop()
    assert scan.pages(restored.postgres, restored.data, account=ACCOUNT) == ()


def test_a_damaged_page_is_named_by_file_and_block_and_by_relation(restored: Server) -> None:
    file = spoil(restored, "filled", 3)
    (found,) = scan.pages(restored.postgres, restored.data, account=ACCOUNT)
    assert found.name.endswith(f"{file}, block 3")
    assert "calculated checksum" in found.words
    restored.start("--wait")
    heap = [item for item in relations(restored) if item.startswith("pages postgres.public.filled: ")]
    assert heap
    assert f"invalid page in block 3 of relation {file}" in heap[0]


def test_a_row_that_an_index_lacks_is_named(restored: Server) -> None:
    with restored.connect() as connection:
        connection.execute("UPDATE pg_index SET indisready = false WHERE indexrelid = 'filled_n'::regclass")
        connection.execute("INSERT INTO filled VALUES (1000, 'nowhere in the index')")
        connection.execute("UPDATE pg_index SET indisready = true WHERE indexrelid = 'filled_n'::regclass")
    (found,) = relations(restored)
    assert found.startswith("pages postgres.public.filled_n: ERROR:  heap tuple")
    assert "lacks matching index tuple" in found


def test_a_scan_that_could_not_be_made_never_passes(restored: Server, folder: Path) -> None:
    with pytest.raises(StepFailed, match=r"pg_checksums did not check .*\(exit status 1\): .*cluster must be shut down"):
        scan.pages(restored.postgres, restored.data, account=ACCOUNT)
    restored.stop()
    with pytest.raises(StepFailed, match=r"pg_amcheck did not check everything \(exit status 1, 0 findings\)"):
        relations(restored)
    shutil.rmtree(restored.data / "global")
    with pytest.raises(StepFailed, match="pg_checksums did not check"):
        scan.pages(restored.postgres, restored.data, account=ACCOUNT)
