from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from system.errors import StorageError
from system.storage import engine
from system.storage.engine import MigrationAltered, connect, migrate, migrations


def _query(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_migrations_are_numbered_without_a_gap() -> None:
    names = [name for name, _ in migrations()]
    assert names[0] == "0001_predictions.sql"
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_migrating_applies_once_and_records_what(database_url: str) -> None:
    names = [name for name, _ in migrations()]
    assert migrate(database_url) == names
    assert migrate(database_url) == []
    assert [name for (name,) in _query(database_url, "SELECT name FROM schema_migrations ORDER BY name")] == names


def test_rows_from_before_and_replicas_of_the_release_before_fit_the_newest_table(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_row = (
        "INSERT INTO predictions (request_id, at, replica, model_version, label, probabilities, input_sha256, media_type,"
        " duration_ms) VALUES ('r', now(), 'serving-1', '3', '7', '{1}', decode(repeat('00', 32), 'hex'), 'image/png', 1)"
    )
    name, statements = migrations()[0]
    (tmp_path / name).write_bytes(statements)
    with monkeypatch.context() as first:
        first.setattr(engine, "resources", Package(tmp_path))
        assert migrate(database_url) == [name]
    with psycopg.connect(database_url) as connection:
        connection.execute(old_row.encode())
    assert migrate(database_url) == [name for name, _ in migrations()[1:]]
    with psycopg.connect(database_url) as connection:
        connection.execute(old_row.encode())
    assert _query(database_url, "SELECT variant, trace_id FROM predictions") == [("fp32", "")] * 2


def test_an_altered_migration_is_refused(database_url: str) -> None:
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_migrations SET sha256 = 'another'")
    with pytest.raises(MigrationAltered, match=r"0001_predictions\.sql has changed since it was applied"):
        migrate(database_url)


def test_processes_that_migrate_at_once_take_turns(database_url: str) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(database_url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]


def test_a_lock_that_is_held_too_long_is_an_error(database_url: str) -> None:
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [engine._MIGRATION_LOCK])
        with pytest.raises(StorageError, match="stopped after nothing: canceling statement due to lock timeout"):
            migrate(database_url, lock_timeout_s=1)


class Package:
    """A migrations package in a folder, in place of the installed one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, package: str) -> Path:
        assert package == "system.storage.migrations"
        return self.folder


def test_a_migration_that_fails_keeps_those_before_it_and_nothing_of_its_own(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE good ()")
    (tmp_path / "0002_bad.sql").write_text("CREATE TABLE bad (); SELECT 1 / 0")
    monkeypatch.setattr(engine, "resources", Package(tmp_path))
    with pytest.raises(StorageError, match=r"stopped after \['0001_good.sql'\]: division by zero"):
        migrate(database_url)
    tables = _query(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    assert tables == [("good",), ("schema_migrations",)]


@pytest.mark.parametrize("name", ["0003_gap.sql", "0002-dash.sql", "2_short.sql"])
def test_a_misnumbered_migration_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "0001_good.sql").write_text("")
    (tmp_path / name).write_text("")
    monkeypatch.setattr(engine, "resources", Package(tmp_path))
    with pytest.raises(StorageError, match=f"{name} should be number 0002"):
        migrations()


def test_a_database_that_is_away_is_named_by_its_setting_without_the_password() -> None:
    with pytest.raises(StorageError, match="ML_DATABASE_URL cannot be used") as caught:
        connect("postgresql://someone:hunter2@127.0.0.1:9/x", application="test")
    assert "hunter2" not in str(caught.value)


def test_a_statement_does_not_wait_for_ever(database_url: str) -> None:
    with connect(database_url, application="test", timeout_s=1) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1s",)
        assert connection.execute("SHOW application_name").fetchone() == ("test",)


def test_a_server_that_is_frozen_is_given_up_and_a_slow_one_is_not(database_url: str) -> None:
    with connect(database_url, application="patient", timeout_s=30) as patient:
        assert patient.execute("SELECT pg_sleep(0.3)").fetchone() == ("",)
    impatient = connect(database_url, application="impatient", timeout_s=30)
    impatient.patience_s = 0.2
    with pytest.raises(psycopg.OperationalError, match=r"the server gave no answer within 0\.2 s"):
        impatient.execute("SELECT pg_sleep(1)")
    assert impatient.closed
    with connect(database_url, application="default") as by_default:
        assert by_default.patience_s == 4
