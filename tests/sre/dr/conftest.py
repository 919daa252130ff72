"""A database of one's own on the session's PostgreSQL; and a PostgreSQL of one's own with backups, to restore and to damage."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from sre.dr import content
from sre.dr.pgbackrest import Stanza
from sre.dr.pgbackrest_records import Backup
from sre.dr.recovery import Reached, Target, wait_for_target
from sre.dr.sets import Table
from sre.targets.local.files import run_as
from sre.targets.local.programs import Found, find

if TYPE_CHECKING:
    from sre.targets.local.target import LocalTarget

SUPERUSER = "postgres"
ACCOUNT = "nobody" if os.getuid() == 0 else None
# What pgBackRest asks for; a superuser is not needed.
GRANTS = """
CREATE ROLE backup LOGIN PASSWORD 'secret';
GRANT pg_read_all_settings TO backup;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean) TO backup;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO backup
"""
CONFIGURATION = """\
[global]
repo1-path={home}/repo1
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=first pass
repo1-retention-full=9999999
repo2-path={home}/repo2
repo2-cipher-type=aes-256-cbc
repo2-cipher-pass=second pass
repo2-retention-full=9999999
compress-type=lz4
start-fast=y
archive-timeout=60
expire-auto=n
process-max=2
log-path={private}
lock-path={private}/lock
spool-path={private}/spool
log-level-console=info
log-level-file=off
[ml]
pg1-path={home}/data
pg1-port={port}
pg1-socket-path={private}
pg1-user=backup
"""


@dataclass(frozen=True)
class Scratch:
    """A database that `content` reads in place of the system's."""

    dsn: str
    reader: str
    passfile: Path

    def execute(self, statement: LiteralString) -> None:
        """Change something in it."""
        with psycopg.connect(self.dsn, passfile=str(self.passfile)) as connection:
            connection.execute(statement)

    def tables(self, key: str = "key") -> dict[str, Table]:
        """What it holds now."""
        return content.tables(self.reader, self.passfile, key)


@pytest.fixture
def scratch(system: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    layout, name = system.layout, f"scratch_{uuid.uuid4().hex}"
    passfile = layout.secrets / "passfile"
    monkeypatch.setattr(content, "DATABASES", (name,))
    with psycopg.connect(layout.dsn(SUPERUSER, "postgres"), passfile=str(passfile), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield Scratch(layout.dsn(SUPERUSER, name), layout.dsn("backup", "postgres"), passfile)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def own(*paths: Path) -> None:
    """Give to the account that PostgreSQL and pgBackRest run as."""
    for path in paths:
        if ACCOUNT:
            shutil.chown(path, ACCOUNT, pwd.getpwnam(ACCOUNT).pw_gid)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A PostgreSQL with its folder, socket and log in `private`; connections ask for a password, as everywhere."""

    postgres: Found
    data: Path
    private: Path
    port: int

    @property
    def dsn(self) -> str:
        return f"host={self.private} port={self.port} user={SUPERUSER} dbname=postgres"

    @property
    def passfile(self) -> Path:
        return self.private / "pgpass"

    @property
    def log(self) -> Path:
        return self.private / f"{self.port}.log"

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.postgres.companion(program), *arguments], **run_as(ACCOUNT), cwd="/",
            env={**os.environ, **self.postgres.environment}, check=True, timeout=60, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def shell(self, command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """What the server does with its archive_command."""
        return subprocess.run(
            ["sh", "-c", command], **run_as(ACCOUNT), cwd=self.data,
            env={**os.environ, **environment}, check=False, timeout=60, capture_output=True, text=True,
        )  # fmt: skip

    def start(self, *options: str) -> None:
        settings = f"-p {self.port} -k {self.private} -c listen_addresses= -c logging_collector=off -c fsync=off"
        self.run("pg_ctl", "start", "--no-wait", f"--pgdata={self.data}", f"--log={self.log}", "-o", settings, *options)

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "stop", "--mode=fast", f"--pgdata={self.data}")

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, passfile=str(self.passfile), autocommit=True)

    def value(self, query: LiteralString) -> Any:
        with self.connect() as connection:
            row = connection.execute(query).fetchone()
        return row[0] if row else None


@dataclass(frozen=True)
class Point:
    """A moment right after the commit of transaction `n` of a numbered history."""

    n: int
    targets: dict[str, Target]


@dataclass(frozen=True)
class Origin:
    """A server with backups, and all that was written to it."""

    server: Server
    stanza: Stanza
    points: tuple[Point, ...]
    backups: dict[int, tuple[Backup, ...]]

    def restored(self, folder: Path) -> Server:
        # The port of a server that listens on a socket file alone looks free.
        port = next(port for port in iter(free_port, None) if port != self.server.port)
        return replace(self.server, data=folder, port=port)

    def numbers(self, target: Target, folder: Path, repo: int = 1) -> tuple[set[int], Reached]:
        """Restore, roll forward, prove, and read which transactions are there."""
        server, newest = self.restored(folder), self.stanza.archive(repo)[-1].newest
        self.stanza.restore(folder, target, repo)
        server.start()
        try:
            reached = wait_for_target(server.dsn, server.passfile, server.log, target, newest_wal=newest, within_s=180)
            with server.connect() as connection:
                return {row[0] for row in connection.execute("SELECT n FROM numbers")}, reached
        finally:
            server.stop()
            shutil.rmtree(folder)

    def copy(self, folder: Path) -> tuple[Stanza, Path]:
        """A copy of the first repository, to be damaged, and the stanza that reads it. The files are the same until replaced."""
        subprocess.run(["cp", "-al", self.server.data.parent / "repo1", folder], check=True)
        config = folder.with_suffix(".conf")
        shutil.copy(self.stanza.config, config)
        config.write_text(re.sub(r"(?m)^repo1-path=.*$", f"repo1-path={folder}", config.read_text()))
        own(config)
        return replace(self.stanza, config=config), folder


def write_history(server: Server, count: int, first: int = 1) -> list[Point]:
    """Numbered transactions, each with every kind of target that names the moment after it."""
    points = []
    with server.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (n int PRIMARY KEY)")
        for n in range(first, first + count):
            row = connection.execute("INSERT INTO numbers VALUES (%s) RETURNING pg_current_xact_id()::text", [n]).fetchone()
            query = "SELECT extract(epoch FROM clock_timestamp()), pg_current_wal_insert_lsn()::text, pg_create_restore_point(%s)"
            after = connection.execute(query, [f"after-{n}"]).fetchone()
            assert row
            assert after
            at = float(after[0])
            targets = (Target.time(at), Target.xid(int(row[0]), at), Target.name(f"after-{n}", at), Target.lsn(after[1], at))
            points.append(Point(n, {target.kind: target for target in targets}))
    return points


def await_archive(server: Server) -> None:
    """Close the current segment and wait until it is archived."""
    with server.connect() as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row
        wanted, archived = row[0], ""
        for _ in range(600):
            state = connection.execute("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").fetchone()
            archived = state[0] if state else ""
            if archived >= wanted:
                return
            connection.execute("SELECT pg_sleep(0.05)")
    raise AssertionError(f"{wanted} was not archived within 30 s; the last was {archived}")


@contextmanager
def served(home: Path, programs: Path) -> Iterator[tuple[Server, Stanza]]:
    """A fresh server that archives into two encrypted repositories."""
    pgbackrest, port = find("pgbackrest", programs), free_port()
    private = home / "private"
    folders = [private, *(home / name for name in ("data", "repo1", "repo2", "private/lock", "private/spool"))]
    for folder in folders:
        folder.mkdir(mode=0o700)
    server = Server(find("postgres", programs), home / "data", private, port)
    config = private / "pgbackrest.conf"
    config.write_text(CONFIGURATION.format(home=home, private=private, port=port))
    server.passfile.write_text("*:*:*:*:secret\n")
    (private / "password").write_text("secret")
    for file in (config, server.passfile, private / "password"):
        file.chmod(0o600)
    own(*folders, config, server.passfile, private / "password")
    server.run(
        "initdb", f"--pgdata={server.data}", f"--username={SUPERUSER}", f"--pwfile={private / 'password'}",
        "--auth=scram-sha-256", "--data-checksums", "--locale=C", "--encoding=UTF8", "--no-sync",
    )  # fmt: skip
    push = f"{pgbackrest.path} --config={config} --stanza=ml archive-push %p"
    with (server.data / "postgresql.conf").open("a") as settings:
        settings.write(f"archive_mode = on\narchive_command = '{push}'\nwal_level = replica\nmax_wal_senders = 4\n")
    server.start("--wait")
    try:
        with server.connect() as connection:
            for statement in GRANTS.split(";"):
                connection.execute(statement)
        environment = {**pgbackrest.environment, "PGPASSFILE": str(server.passfile)}
        yield server, Stanza(pgbackrest.path, environment, config, account=ACCOUNT)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def origin(programs: Path, open_session_folder: Path) -> Iterator[Origin]:
    """Two full, a differential and an incremental backup with 40 numbered transactions between them, in two repositories."""
    with served(open_session_folder, programs) as (server, stanza):
        stanza.create()
        points: list[Point] = []
        backups = []
        for kind in ("full", "full", "diff", "incr"):
            points += write_history(server, 2, len(points) + 1)
            backups.append(stanza.backup(kind))
            points += write_history(server, 8, len(points) + 1)
        write_history(server, 1, len(points) + 1)
        await_archive(server)
        yield Origin(server, stanza, tuple(points), {repo: tuple(item[repo] for item in backups) for repo in (1, 2)})


@pytest.fixture(scope="session")
def open_session_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Short, for the socket's path, and reachable by every account."""
    folder = Path("/tmp") / f"sre-dr-{uuid.uuid4().hex[:8]}"  # noqa: S108 - its name is random
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(open_session_folder: Path) -> Iterator[Path]:
    """An empty place for one test, beside the server."""
    place = open_session_folder / uuid.uuid4().hex[:8]
    place.mkdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)
