"""The program that restores the newest backup of a cluster's database and judges it, on real backups of a real server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sre.dr.pgbackrest import Stanza
from tests.manifests.generated import K8S
from tests.sre.dr.conftest import ACCOUNT, Server, await_archive, own, served

SCRIPT = K8S / "components" / "drills" / "restored.py"
ROWS = 5000
# Another account may not reach this one's interpreter.
PYTHON = "/usr/bin/python3" if ACCOUNT else sys.executable


@pytest.fixture(scope="module")
def restored() -> ModuleType:
    spec = importlib.util.spec_from_file_location("restored", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def origin(programs: Path) -> Iterator[tuple[Server, Stanza]]:
    """A server with one repository and a backup; more was written after it."""
    home = Path(f"/tmp/sre-restored-{uuid.uuid4().hex[:8]}")  # noqa: S108 - short, for the socket, and open to the server's account
    home.mkdir(mode=0o755)
    try:
        with served(home, programs) as (server, stanza):
            stanza.config.write_text(re.sub(r"(?m)^repo2-.*\n", "", stanza.config.read_text()))
            stanza.create()
            with server.connect() as connection:
                connection.execute("CREATE TABLE numbers (n int PRIMARY KEY)")
                connection.execute("INSERT INTO numbers SELECT generate_series(1, %s)", [ROWS - 1])
            stanza.backup("full")
            with server.connect() as connection:
                connection.execute("INSERT INTO numbers VALUES (%s)", [ROWS])
            await_archive(server)
            yield server, stanza
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(origin: tuple[Server, Stanza], config: Path | None = None, tables: str = "postgres.public.numbers") -> tuple[int, Any]:
    """Exit status and document of the program, as the account that may not be root."""
    server, stanza = origin
    folder = server.data.parent / uuid.uuid4().hex[:8]
    folder.mkdir(mode=0o700)
    own(folder)
    programs = [stanza.program.parent, *(server.postgres.companion(name).parent for name in ("pg_ctl", "pg_amcheck", "psql"))]
    environment = {
        **os.environ, **server.postgres.environment, **stanza.environment, "RESTORE_FOLDER": str(folder),
        "RESTORE_TABLES": tables, "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "PGBACKREST_CONFIG": str(config or stanza.config),
    }  # fmt: skip
    done = subprocess.run(
        [PYTHON, "-"], input=SCRIPT.read_text(encoding="utf-8"), env=environment, cwd="/", user=ACCOUNT, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def damaged(origin: tuple[Server, Stanza], name: str) -> tuple[Path, Path]:
    """A copy of the repository, to be damaged, and a configuration that names it."""
    server, stanza = origin
    copy = server.data.parent / name
    subprocess.run(["cp", "-a", server.data.parent / "repo1", copy], check=True)
    config = copy.with_suffix(".conf")
    config.write_text(re.sub(r"(?m)^repo1-path=.*$", f"repo1-path={copy}", stanza.config.read_text()))
    config.chmod(0o600)
    own(config)
    return copy, config


def test_the_newest_backup_comes_back_with_what_was_written_after_it(origin: tuple[Server, Stanza]) -> None:
    code, found = run(origin)
    assert (code, found["wrong"]) == (0, []), found
    assert found["rows"]["postgres.public.numbers"] == ROWS
    assert 0 <= found["lost_s"] < 600
    assert found["schema"] == "ml.database-restore/1"


def test_a_table_that_is_missing_breaks_it(origin: tuple[Server, Stanza]) -> None:
    code, found = run(origin, tables="predictions.public.predictions")
    assert (code, found["wrong"]) == (1, ["table predictions.public.predictions did not come back"])


def test_a_damaged_backup_breaks_it(origin: tuple[Server, Stanza]) -> None:
    copy, config = damaged(origin, "altered")
    largest = max((copy / "backup").rglob("*.lz4"), key=lambda path: path.stat().st_size)
    body = bytearray(largest.read_bytes())
    body[len(body) // 2] ^= 0xFF
    largest.write_bytes(body)
    code, found = run(origin, config)
    assert code == 1, found
    assert "pgbackrest restore exited with" in found["wrong"][0]


def test_missing_wal_breaks_it(origin: tuple[Server, Stanza]) -> None:
    copy, config = damaged(origin, "gap")
    for path in (copy / "archive").rglob("0000*.lz4"):
        path.unlink()
    code, found = run(origin, config)
    assert code == 1, found
    assert "did not start" in found["wrong"][0]


def test_no_backup_breaks_it_and_no_repository_says_nothing(origin: tuple[Server, Stanza]) -> None:
    copy, config = damaged(origin, "empty")
    for path in (copy / "backup" / "ml").glob("2*"):
        shutil.rmtree(path)
    (copy / "backup" / "ml" / "latest").unlink(missing_ok=True)
    info = copy / "backup" / "ml" / "backup.info"
    assert info.exists()
    config.write_text(re.sub(r"(?m)^repo1-cipher-pass=.*$", "repo1-cipher-pass=another", config.read_text()))
    code, found = run(origin, config)
    assert code == 4, found
    assert "cannot be asked" in found["wrong"][0]


def test_no_backup_is_broken(restored: ModuleType) -> None:
    for backups in ([], [{"error": True, "label": "a", "timestamp": {"stop": 1}}]):
        with pytest.raises(restored.Broken, match=r"there is no backup to restore \(no valid backups\)"):
            restored.newest({"backup": backups, "status": {"message": "no valid backups"}})


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, []),
        ({"restored_s": 3599.9, "lost_s": 86_399.9}, []),
        ({"restored_s": 3600.0}, ["restored after 3600 s; under 3600 s are promised"]),
        ({"lost_s": 86_400.0}, ["what was written in the last 86400 s is lost; under 86400 s are promised"]),
        ({"rows": {}}, ["table a.b.c did not come back"]),
    ],
)
def test_what_is_judged(restored: ModuleType, changed: dict[str, Any], wrong: list[str]) -> None:
    measured = {"restored_s": 10.0, "lost_s": 60.0, "rows": {"a.b.c": 0}} | changed
    assert restored.judge(measured, ["a.b.c"]) == wrong
