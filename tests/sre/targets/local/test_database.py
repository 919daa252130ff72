from __future__ import annotations

import os
import pwd
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from psycopg.conninfo import make_conninfo
from yaml import safe_load

from sre.errors import CannotRun
from sre.targets.certificates import Authority
from sre.targets.local import database, prepare
from sre.targets.local.files import run_as, secret, write_private
from sre.targets.local.interpreter import patroni
from sre.targets.local.layout import MEMBERS, Layout
from sre.targets.local.programs import find
from sre.targets.local.target import LocalTarget

MakeLayout = Callable[..., Layout]
PRIVATE = ("patroni.yml", "pgbackrest.conf", "tls.key", "pgpass")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_role_has_its_databases_and_no_two_own_the_same() -> None:
    owned = [name for names in database.ROLES.values() for name in names]
    assert sorted(owned) == ["drills", "mlflow", "predictions"]
    assert len(set(database.all_roles())) == len(database.all_roles()) == 8


def test_each_member_gets_a_certificate_that_it_may_show_to_the_others(cluster: Layout) -> None:
    authority = x509.load_pem_x509_certificate((cluster.config / "ca.pem").read_bytes())
    seen = set()
    for member in cluster.members:
        private = cluster.private(member)
        certificate = x509.load_pem_x509_certificate((private / "tls.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)
        assert certificate.subject.rfc4514_string() == f"CN={member}"
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert ExtendedKeyUsageOID.CLIENT_AUTH in usages
        ssl.create_default_context().load_cert_chain(private / "tls.crt", private / "tls.key")
        seen.add((private / "tls.key").read_text())
    assert len(seen) == 3


def test_no_file_with_a_secret_is_readable_by_others(cluster: Layout) -> None:
    owner = cluster.account or pwd.getpwuid(os.geteuid()).pw_name
    words = [path.read_text().strip() for path in cluster.secrets.iterdir() if path.suffix != ".key" and path.name != "passfile"]
    for member in cluster.members:
        private = cluster.private(member)
        assert mode(private) == 0o700
        texts = {path.name: path.read_text() for path in private.iterdir() if path.is_file()}
        telling = {name for name, text in texts.items() if any(word in text for word in words)}
        assert telling == {"patroni.yml", "pgbackrest.conf", "pgpass"}
        for name in PRIVATE:
            assert mode(private / name) == 0o600, name
            assert (private / name).owner() == owner, name
        assert sorted(path.name for path in private.iterdir()) == [
            "patroni.yml", "pgbackrest.conf", "pgpass", "spool", "tls.crt", "tls.key",
        ]  # fmt: skip


def test_data_and_backups_lie_in_folders_of_the_account_alone(cluster: Layout) -> None:
    places = [cluster.data(member).parent for member in MEMBERS] + [place for place, _ in database.repositories_of(cluster)]
    places += [cluster.home / "data" / f"etcd-{number}" for number in (1, 2, 3)]
    for place in places:
        assert mode(place) == 0o700, place
        assert place.owner() == (cluster.account or pwd.getpwuid(os.geteuid()).pw_name), place


def test_a_second_start_gives_new_certificates_and_keeps_what_was_saved(
    prepared: Callable[..., Layout], open_folder: Path
) -> None:
    layout = prepared(open_folder, "all")
    private = layout.private("postgres-1")
    before = {name: (private / name).read_text() for name in ("tls.key", "pgpass")}
    (layout.data("postgres-1").parent / "kept").touch()
    (private / "leftover").touch()
    prepare.passwords(layout)
    database.folders(layout, Authority())
    assert (private / "tls.key").read_text() != before["tls.key"]
    assert (private / "pgpass").read_text() == before["pgpass"]
    assert not (private / "leftover").exists()
    assert (layout.data("postgres-1").parent / "kept").exists()


def test_each_member_is_configured_as_itself_and_all_agree_on_the_rest(cluster: Layout) -> None:
    documents = {member: safe_load((cluster.private(member) / "patroni.yml").read_text()) for member in MEMBERS}
    for number, (member, document) in enumerate(documents.items(), 1):
        assert (document["name"], document["postgresql"]["data_dir"]) == (member, str(cluster.data(member)))
        assert document["postgresql"]["listen"] == cluster.address(f"postgres-{number}-inside")
        assert document["postgresql"]["connect_address"] == cluster.address(member)
        assert document["restapi"]["connect_address"] == cluster.address(f"patroni-{number}")
    for part in ("bootstrap", "scope", "namespace"):
        assert len({str(document[part]) for document in documents.values()}) == 1
    passwords = {role["username"]: role["password"] for role in documents["postgres-1"]["postgresql"]["authentication"].values()}
    assert set(passwords) == {"postgres", "replicator", "rewind"}
    for role, password in passwords.items():
        assert (cluster.secrets / f"{role}.password").read_text() == password


def test_all_members_know_the_same_keys_of_the_repositories(cluster: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    askers = set()

    def asked(path: Path) -> str:
        askers.add(threading.current_thread())
        return secret(path)

    monkeypatch.setattr(database, "secret", asked)
    for _, file in database.repositories_of(cluster):
        file.unlink()
    database.configure(cluster)
    # Two that ask for a secret that is not there yet would each make one: only one ever asks.
    assert askers == {threading.current_thread()}
    ciphers = [secret(file) for _, file in database.repositories_of(cluster)]
    assert len(set(ciphers)) == 2
    for member in MEMBERS:
        text = (cluster.private(member) / "pgbackrest.conf").read_text()
        assert [line.partition("=")[2] for line in text.splitlines() if "cipher-pass" in line] == ciphers


def complaints(layout: Layout, file: Path) -> set[str]:
    command, environment = patroni(layout)
    done = as_account(layout, [*command, "--validate-config", str(file)], environment)
    assert "didn't pass validation" in done.stdout + done.stderr
    return {line.split()[0] for line in (done.stdout + done.stderr).splitlines() if line.strip()}


@pytest.mark.local
def test_patroni_itself_takes_the_configuration(cluster: Layout) -> None:
    # It asks for addresses that other machines reach, and for a store that answers: here are neither.
    elsewhere = {"restapi.connect_address", "postgresql.connect_address", "etcd3.hosts"}
    whole, broken = cluster.private("postgres-1") / "patroni.yml", cluster.private("postgres-1") / "broken.yml"
    assert complaints(cluster, whole) == elsewhere
    text = whole.read_text()
    broken.write_text(text.replace("scope: ml", "").replace("verify_client: optional", "verify_client: perhaps"))
    try:
        assert complaints(cluster, broken) == elsewhere | {"scope", "restapi.verify_client"}
    finally:
        broken.unlink()


def as_account(layout: Layout, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=layout.run, **run_as(layout.account),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_values_that_the_system_refuses_are_told_and_not_left_on_disk(cluster: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_values", lambda _layout, _member: {"etcd": ["hunter2"]})
    with pytest.raises(CannotRun, match=r"the configuration of postgres-\d cannot be rendered: template 'patroni.yml' cannot"):
        database.configure(cluster)
    assert not list(cluster.config.rglob("values.json"))


def test_a_cluster_without_a_primary_says_what_was_seen(cluster: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PRIMARY_WITHIN_S", 0.5)
    with pytest.raises(CannotRun, match=r"no database server became the primary within 0 s; last seen: .*refused"):
        database.roles(cluster)


@pytest.mark.local
def test_a_single_database_has_checksums_passwords_and_is_made_once(place: Layout) -> None:
    database.initialise(place)
    data = place.data("postgres")
    rules = [line for line in (data / "pg_hba.conf").read_text().splitlines() if line and not line.startswith("#")]
    assert {line.split()[-1] for line in rules} == {"scram-sha-256"}
    assert not (place.run / "initial-password").exists()
    if place.account:
        assert data.owner() == place.account
    control = as_account(place, [str(find("postgres", place.tools).companion("pg_controldata")), str(data)], {"LC_ALL": "C"})
    assert "Data page checksum version:           1\n" in control.stdout
    before = (data / "PG_VERSION").stat().st_mtime_ns
    database.initialise(place)
    assert (data / "PG_VERSION").stat().st_mtime_ns == before


@pytest.mark.local
def test_a_single_database_that_cannot_be_made_leaves_no_half(place: Layout) -> None:
    data = place.data("postgres")
    half = data.with_suffix(".new")
    half.mkdir()
    (half / "PG_VERSION").write_text("15")
    (place.secrets / "postgres.password").write_text("")
    with pytest.raises(CannotRun, match=r"initdb failed with 1: .*password file .* is empty"):
        database.initialise(place)
    assert not (place.run / "initial-password").exists()
    assert not data.exists()
    write_private(place.secrets / "postgres.password", "secret")
    database.initialise(place)
    assert not half.exists()


def test_what_is_no_database_is_never_replaced(place: Layout) -> None:
    data = place.data("postgres")
    data.mkdir()
    (data / "letters").touch()
    with pytest.raises(CannotRun, match="exists and holds no database; move it away"):
        database.initialise(place)
    assert (data / "letters").exists()


def connect(layout: Layout, role: str, name: str, **options: str) -> psycopg.Connection[tuple[Any, ...]]:
    known: dict[str, Any] = {"passfile": str(layout.secrets / "passfile"), "connect_timeout": 10}
    return psycopg.connect(make_conninfo(layout.dsn(role, name), **(known | options)), autocommit=True)


@pytest.mark.local
def test_each_role_reaches_its_own_and_nothing_more(system: LocalTarget) -> None:
    layout = system.layout
    with connect(layout, "backup", "predictions") as connection:
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM predictions")
    with connect(layout, "monitor", "predictions") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM predictions")
    with connect(layout, "serving", "mlflow") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM experiments")
    with connect(layout, "drills", "predictions") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM predictions")
    with connect(layout, "drills", "drills") as connection:
        connection.execute("CREATE TEMPORARY TABLE mine (number int)")
    database.roles(layout)
    connect(layout, "serving", "predictions").close()


@pytest.mark.local
@pytest.mark.parametrize("options", [{"password": "wrong"}, {"sslmode": "disable"}, {"sslrootcert": "system"}])
def test_nobody_comes_in_without_password_and_encryption_or_talks_to_a_stranger(
    system: LocalTarget, options: dict[str, str]
) -> None:
    for role in database.all_roles():
        with pytest.raises(psycopg.OperationalError, match=r"authentication failed|no encryption|certificate verify failed"):
            connect(system.layout, role, "postgres", **options)


@pytest.mark.local
def test_the_running_primary_is_as_it_was_configured(system: LocalTarget) -> None:
    wanted = {
        "data_checksums": "on", "ssl": "on", "password_encryption": "scram-sha-256", "archive_mode": "on", "fsync": "on",
        "synchronous_commit": "on", "full_page_writes": "on",
    }  # fmt: skip
    with connect(system.layout, "postgres", "postgres") as connection:
        assert {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in wanted} == {
            name: (value,) for name, value in wanted.items()
        }
        rules = connection.execute("SELECT DISTINCT type, auth_method FROM pg_hba_file_rules ORDER BY type").fetchall()
        assert rules == [("hostssl", "scram-sha-256"), ("local", "scram-sha-256")]
        clear = "SELECT rolname FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
        assert connection.execute(clear.encode()).fetchall() == []


@pytest.mark.local
def test_wal_arrives_in_both_repositories_encrypted(system: LocalTarget, eventually: Callable[..., None]) -> None:
    layout = system.layout
    with connect(layout, "postgres", "postgres") as connection:
        segment = connection.execute("SELECT pg_walfile_name(pg_logical_emit_message(false, 'test', 'a word'))").fetchone()
        connection.execute("SELECT pg_switch_wal()")
    assert segment is not None
    for repository, _ in database.repositories_of(layout):
        eventually(lambda repository=repository: any(repository.rglob(f"{segment[0]}-*.lz4")), f"{segment[0]} in {repository}")
        archived = next(repository.rglob(f"{segment[0]}-*.lz4"))
        assert archived.read_bytes().startswith(b"Salted__")
        assert mode(repository) == 0o700
    first, second = ((layout.secrets / name).read_text() for name in ("backup-cipher", "offsite-cipher"))
    assert first != second
    assert database.has_repository(layout)
