from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from sre.dr import backup, content, place, sets, vault
from sre.dr.recovery import LATEST
from sre.dr.sets import BackupSet
from sre.errors import CannotRun, StepFailed, UsageError
from sre.faults.ledger import ACTIONS
from sre.targets.local import target
from sre.targets.local.layout import Layout
from sre.targets.local.target import LocalTarget, layout_of

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def made(system: LocalTarget) -> BackupSet:
    return backup.create(system.layout, "full")


@pytest.fixture
def home(system: LocalTarget) -> Iterator[Path]:
    home = system.layout.home / "restored" / "test"
    yield home
    target.down(home, purge=True)


def test_a_place_holds_exactly_what_the_set_says_and_answers_on_its_own(system: LocalTarget, made: BackupSet, home: Path) -> None:
    # Written after the set: it must not come back.
    dsn = system.layout.dsn("drills", "drills")
    with psycopg.connect(dsn, passfile=str(system.layout.secrets / "passfile")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS later AS SELECT 1 AS n")
    restored = place.restore(made, system.layout, home)
    own = restored.target.layout
    found = content.tables(own.dsn("postgres", "postgres"), own.secrets / "passfile", made.database.marker)
    assert content.compare(made.tables, found) == {}
    assert made.database.marker in restored.reached.words
    assert restored.backup.label == made.database.backups["store"].label
    assert httpx.get(f"{own.url('serving-1')}/health/ready", trust_env=False).status_code == httpx.codes.OK
    for name in ("serving", "mlflow", "monitor"):
        assert (own.secrets / f"{name}.password").read_text() != (system.layout.secrets / f"{name}.password").read_text()
    with pytest.raises(CannotRun, match="is not empty"):
        place.restore(made, system.layout, home)


def test_the_newest_moment_comes_back_from_the_second_place(system: LocalTarget, made: BackupSet, home: Path) -> None:
    restored = place.restore(made, system.layout, home, place="off_site", target=LATEST, parts="database")
    own = restored.target.layout
    with psycopg.connect(own.dsn("postgres", "mlflow"), passfile=str(own.secrets / "passfile")) as connection:
        assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
        assert connection.execute("SELECT count(*) FROM model_versions").fetchone() != (0,)


def test_a_damaged_object_ends_a_restore(system: LocalTarget, made: BackupSet, home: Path) -> None:
    name, ref = next((name, ref) for name, ref in made.objects.items() if name.endswith("model.onnx"))
    path = vault.path_of(sets.places(system.layout.home)["store"], ref.sha256)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    try:
        with pytest.raises(StepFailed, match=name):
            place.restore(made, system.layout, home)
    finally:
        path.write_bytes(whole)


def test_a_set_without_a_copy_there_is_refused(system: LocalTarget, made: BackupSet, home: Path) -> None:
    database = made.database.model_copy(update={"backups": {"store": made.database.backups["store"]}})
    with pytest.raises(StepFailed, match="restore from the other place"):
        place.restore(made.model_copy(update={"database": database}), system.layout, home, place="off_site")


def test_a_running_system_is_never_replaced_nor_one_of_another_name(system: LocalTarget, made: BackupSet) -> None:
    with pytest.raises(UsageError, match="is named ml, not production"):
        place.replace(made, system.layout, "production")
    with pytest.raises(UsageError, match="end it with `sre down`"):
        place.replace(made, system.layout, "ml")


def test_renames_happen_all_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with pytest.raises(FileNotFoundError):
        place._rename([(tmp_path / "a", tmp_path / "x" / "a"), (tmp_path / "missing", tmp_path / "x" / "b")])
    assert (tmp_path / "a").read_text() == "a"


def test_a_system_that_is_down_is_replaced_and_what_was_there_stays_aside(programs: Path, open_folder: Path) -> None:
    home = open_folder / "home"
    try:
        begun, _ = target.up(home, programs, parts="cluster")
        layout = begun.layout
        made = _small_set(layout)
        with psycopg.connect(layout.dsn("drills", "drills"), passfile=str(layout.secrets / "passfile")) as connection:
            connection.execute("DROP TABLE kept")
        target.down(home)
        aside = place.replace(made, layout_of(home, programs), "ml")
        assert (aside / "postgres-1" / "pgdata" / "PG_VERSION").exists()
        again, _ = target.up(home, programs, parts="cluster")
        with psycopg.connect(again.layout.dsn("drills", "drills"), passfile=str(layout.secrets / "passfile")) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
            assert connection.execute("SHOW archive_mode").fetchone() == ("on",)
        ACTIONS["await-database"](again, {})
        assert {member.role for member in again.database.members()} == {"primary", "sync_standby", "standby"}
    finally:
        target.down(home, purge=True)


def _small_set(layout: Layout) -> BackupSet:
    """A set of a cluster without a registry: the tables of MLflow that a backup reads are made by hand."""
    passfile = str(layout.secrets / "passfile")
    with psycopg.connect(layout.dsn("drills", "drills"), passfile=passfile) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    with psycopg.connect(layout.dsn("mlflow", "mlflow"), passfile=passfile) as connection:
        connection.execute("CREATE TABLE model_versions (name text, version int, current_stage text)")
        connection.execute("CREATE TABLE model_version_tags (name text, version int, key text, value text)")
        connection.execute("CREATE TABLE registered_model_aliases (name text, alias text, version int)")
    return backup.create(layout, "full")
