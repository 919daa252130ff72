"""What the database servers of a system need: folders, certificates, configuration, roles, and repositories for their backups."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from sre.errors import CannotRun
from sre.targets.certificates import Authority
from sre.targets.local.files import give_to, run_as, secret, write_private
from sre.targets.local.layout import MEMBERS, Layout, number_of
from sre.targets.local.programs import find

# Role -> databases that it owns. The superuser's name is libpq's own default.
ROLES: dict[str, tuple[str, ...]] = {
    "mlflow": ("mlflow",), "serving": ("predictions",), "drills": ("drills",), "backup": (), "monitor": (),
}  # fmt: skip
SUPERUSER = "postgres"
# Roles that Patroni makes for itself, by what it calls them.
_PATRONI_ROLES = {"superuser": SUPERUSER, "replication": "replicator", "rewind": "rewind"}
_PRIMARY_WITHIN_S = 90.0
_RENDER_WITHIN_S = 60.0
# Of a single server; those of the cluster stand in patroni.yml.
_RULES = "local all postgres,backup scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
_MAY_BACK_UP = (
    "pg_backup_start(text, boolean)", "pg_backup_stop(boolean)", "pg_create_restore_point(text)", "pg_switch_wal()",
)  # fmt: skip


def all_roles() -> tuple[str, ...]:
    """Every role that has a password."""
    return (*_PATRONI_ROLES.values(), *ROLES)


def folders(layout: Layout, authority: Authority) -> None:
    """Make each server's private folder anew, with its certificate, key and passwords, and the folders of the backups."""
    for member in layout.members:
        private = layout.private(member)
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(mode=0o700)
        (private / "spool").mkdir()
        certificate, key = authority.issue(member, client=True)
        (private / "tls.crt").write_bytes(certificate)
        write_private(private / "tls.key", key)
        write_private(private / "pgpass", f"*:*:*:backup:{secret(layout.secrets / 'backup.password')}\n")
    if not layout.clustered:
        (layout.private("postgres") / "pg_hba.conf").write_text(_RULES, encoding="utf-8")
    if layout.account:
        give_to(layout.account, *map(layout.private, layout.members))
    etcd = [layout.store(number_of(member)) for member in MEMBERS] if layout.clustered else []
    own = [layout.data(member).parent for member in layout.members]
    for place in (layout.config / "locks", *own, *etcd, *(repository for repository, _ in repositories_of(layout))):
        if not place.exists():
            place.mkdir(mode=0o700, parents=True)
            if layout.account:
                give_to(layout.account, place)


def repositories_of(layout: Layout) -> list[tuple[Path, Path]]:
    """Folder of each backup repository, and the file that holds its cipher's password."""
    return [
        (layout.objects / "ml-backups" / "pgbackrest", layout.secrets / "backup-cipher"),
        (layout.offsite / "pgbackrest", layout.secrets / "offsite-cipher"),
    ]


def configure(layout: Layout) -> None:
    """Render each member's configuration into its private folder.

    Raises:
        CannotRun: the system refuses the values; the message holds its words.
    """
    # One after the other: the first question makes a secret, and members that ask at once would each make one of their own.
    values = [_values(layout, member) for member in layout.members]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda member, own: _configure(layout, member, own), layout.members, values))


def _configure(layout: Layout, member: str, own: dict[str, Any]) -> None:
    private = layout.private(member)
    values = private / "values.json"
    write_private(values, json.dumps(own))
    command = [
        sys.executable, "-m", "system", "render", "--values", str(values), "--into", str(private),
        "--only", "patroni.yml", "--only", "pgbackrest.conf",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, cwd=layout.run, capture_output=True, text=True, timeout=_RENDER_WITHIN_S, check=False)
    finally:
        values.unlink()
    if done.returncode:
        raise CannotRun(f"the configuration of {member} cannot be rendered: {done.stderr.strip()[-600:]}")
    for name in ("patroni.yml", "pgbackrest.conf"):
        (private / name).chmod(0o600)
    if layout.account:
        give_to(layout.account, private)


def _values(layout: Layout, member: str) -> dict[str, Any]:
    number = number_of(member)
    return {
        "member": {
            "name": member,
            "folder": str(layout.private(member)),
            "data": str(layout.data(member)),
            "postgres": layout.address(member),
            "postgres_inside": layout.address(f"{member}-inside"),
            "postgres_port": layout.ports[f"{member}-inside"],
            "rest": layout.address(f"patroni-{number}"),
            "rest_inside": layout.address(f"patroni-{number}-inside"),
        },
        "etcd": [layout.address(f"etcd-{number}") for number in range(1, len(MEMBERS) + 1)],
        "authority": str(layout.config / "ca.pem"),
        "programs": str(find("postgres", layout.tools).path.parent),
        "pgbackrest": str(find("pgbackrest", layout.tools).path),
        "locks": str(layout.config / "locks"),
        "synchronous": layout.synchronous,
        "authentication": {
            purpose: {"name": role, "password": secret(layout.secrets / f"{role}.password")}
            for purpose, role in _PATRONI_ROLES.items()
        },
        "repositories": [{"path": str(place), "pass": secret(file)} for place, file in repositories_of(layout)],
    }


def initialise(layout: Layout) -> None:
    """Make an empty database for a single server, with checksums and passwords, unless there is one.

    Raises:
        CannotRun: initdb failed (the message holds its words), or the folder holds something else.
    """
    data = layout.data("postgres")
    if (data / "PG_VERSION").exists():
        return
    if data.exists():
        raise CannotRun(f"{data} exists and holds no database; move it away, or run `sre down --purge`")
    # Made beside and renamed when whole: what a SIGKILL leaves half is never taken for a cluster.
    fresh = data.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    postgres = find("postgres", layout.tools)
    fresh.mkdir(mode=0o700)
    password = layout.run / "initial-password"
    write_private(password, secret(layout.secrets / f"{SUPERUSER}.password"))
    if layout.account:
        give_to(layout.account, fresh, password)
    command = [
        str(postgres.companion("initdb")), "--pgdata", str(fresh), "--username", SUPERUSER,
        "--pwfile", str(password), "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C", "--no-sync",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, env={**os.environ, **postgres.environment}, cwd=layout.run, **run_as(layout.account),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        password.unlink()
    if done.returncode:
        raise CannotRun(f"initdb failed with {done.returncode}: {done.stderr.strip()[-600:]}")
    fresh.rename(data)


def roles(layout: Layout) -> None:
    """Make the roles and their databases on the primary, each role with nothing beyond its own.

    Raises:
        CannotRun: no server became the primary in time; the message holds what was last seen.
    """
    with _primary(layout) as connection:
        have = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role, owned in ROLES.items():
            name = sql.Identifier(role)
            verb = sql.SQL("ALTER ROLE" if role in have else "CREATE ROLE")
            password = sql.Literal(secret(layout.secrets / f"{role}.password"))
            connection.execute(sql.SQL("{} {} LOGIN PASSWORD {}").format(verb, name, password))
            for database in owned:
                exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
                if not exists:
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), name))
        connection.execute("GRANT pg_monitor TO monitor")
        connection.execute("GRANT pg_read_all_data, pg_read_all_settings TO backup")
        for function in _MAY_BACK_UP:
            connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO backup").format(sql.SQL(function)))


def superuser(layout: Layout, *, autocommit: bool = False, within_s: int = 10) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of the superuser to the primary.

    Raises:
        psycopg.Error: there is none, or it lets nobody in.
    """
    return psycopg.connect(
        layout.dsn(SUPERUSER, "postgres"), passfile=str(layout.secrets / "passfile"), autocommit=autocommit,
        connect_timeout=within_s,
    )  # fmt: skip


def _primary(layout: Layout) -> psycopg.Connection[tuple[Any, ...]]:
    again = retry(
        stop=stop_after_delay(_PRIMARY_WITHIN_S), wait=wait_fixed(0.3), reraise=True,
        retry=retry_if_exception_type(psycopg.OperationalError),
    )  # fmt: skip
    try:
        return again(superuser)(layout, autocommit=True, within_s=5)
    except psycopg.OperationalError as error:
        raise CannotRun(f"no database server became the primary within {_PRIMARY_WITHIN_S:.0f} s; last seen: {error}") from error


def repository(layout: Layout) -> None:
    """Make the stanza in both repositories; from then on the primary's WAL is archived there.

    Raises:
        CannotRun: pgBackRest refuses; the message holds its words.
    """
    with _primary(layout) as connection:
        row = connection.execute("SELECT inet_server_port()").fetchone()
    primary = next(member for member in MEMBERS if row == (layout.ports[f"{member}-inside"],))
    program, config, environment = backrest(layout, primary)
    done = subprocess.run(
        [str(program), f"--config={config}", "--stanza=ml", "stanza-create"], env=environment, cwd=layout.run,
        **run_as(layout.account), capture_output=True, text=True, timeout=_RENDER_WITHIN_S, check=False,
    )  # fmt: skip
    if done.returncode or not has_repository(layout):
        raise CannotRun(f"the backup repositories cannot be made (exit {done.returncode}): {done.stdout.strip()[-600:]}")


def backrest(layout: Layout, member: str) -> tuple[Path, Path, dict[str, str]]:
    """PgBackRest for one member: the program, its configuration file, and the environment that it needs."""
    found, private = find("pgbackrest", layout.tools), layout.private(member)
    # It looks into the home folder for more settings; the caller's is not its.
    own = {"PATH": os.environ["PATH"], "HOME": str(private), "PGPASSFILE": str(private / "pgpass")}
    return found.path, private / "pgbackrest.conf", {**found.environment, **own}


def has_repository(layout: Layout) -> bool:
    """Whether both repositories hold the stanza."""
    return all((place / "archive" / "ml" / "archive.info").exists() for place, _ in repositories_of(layout))
