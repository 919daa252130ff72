from __future__ import annotations

import hashlib
import json
import os
import pwd
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from cryptography import x509

from sre.errors import CannotRun
from sre.targets.local import prepare
from sre.targets.local.layout import Layout, unprivileged_account
from sre.targets.local.target import LocalTarget
from sre.targets.local.tools import ALERTMANAGER_SHARE, RELOCATED_SHARE

MakeLayout = Callable[..., Layout]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_open_a_way_for_the_account_and_show_it_nothing_else(make_layout: MakeLayout) -> None:
    layout = make_layout(account="nobody")
    (layout.tools / "root" / ALERTMANAGER_SHARE).mkdir(parents=True)
    prepare.folders(layout)
    prepare.folders(layout)
    assert {mode(folder) for folder in (layout.home, layout.home / "data", layout.run)} == {0o711}
    assert mode(layout.secrets) == 0o700
    assert (layout.run / RELOCATED_SHARE).resolve() == layout.tools / "root" / ALERTMANAGER_SHARE


def test_secrets_are_private_different_and_kept(make_layout: MakeLayout) -> None:
    layout = make_layout()
    prepare.passwords(layout)
    files = sorted(layout.secrets.iterdir())
    first = {path.name: path.read_text() for path in files}
    assert {mode(path) for path in files} == {0o600}
    assert len(first) == len(set(first.values())) == 7
    assert min(len(text) for text in first.values()) >= 32
    prepare.passwords(layout)
    assert {path.name: path.read_text() for path in files} == first
    lines = [line.rsplit(":", 2) for line in first["passfile"].splitlines()]
    assert {(role, first[f"{role}.password"]) for _, role, _ in lines} == {(role, password) for _, role, password in lines}


def test_the_service_is_told_the_hash_of_the_key_only(make_layout: MakeLayout) -> None:
    layout = make_layout()
    prepare.passwords(layout)
    key = (layout.secrets / "api-key").read_text().strip()
    text = (layout.config / "api-keys.json").read_text()
    assert key not in text
    assert json.loads(text)["keys"] == [{"name": "drills", "sha256": hashlib.sha256(key.encode()).hexdigest()}]


def test_a_private_file_replaces_what_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o666)
    prepare.write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_the_authority_signs_one_certificate_for_this_machine_and_leaves_no_key(make_layout: MakeLayout) -> None:
    layout = make_layout()
    prepare.certificates(layout)
    authority, server = (x509.load_pem_x509_certificate((layout.config / name).read_bytes()) for name in ("ca.pem", "server.pem"))
    server.verify_directly_issued_by(authority)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert (names.get_values_for_type(x509.DNSName), [str(one) for one in names.get_values_for_type(x509.IPAddress)]) == (
        ["localhost"], ["127.0.0.1"],
    )  # fmt: skip
    assert [path.name for path in layout.secrets.iterdir()] == ["server.key"]
    assert mode(layout.secrets / "server.key") == 0o600
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        layout.config / "server.pem", layout.secrets / "server.key"
    )


def test_every_configuration_file_is_rendered(make_layout: MakeLayout) -> None:
    layout = make_layout(account=unprivileged_account())
    prepare.configuration(layout)
    nginx = (layout.config / "nginx.conf").read_text()
    assert all(f"server {layout.address(name)} " in nginx for name in layout.replicas)
    assert ("user nobody" in nginx) == (os.geteuid() == 0)
    assert {"prometheus.yml", "alerts.yml", "alertmanager.yml"} <= {path.name for path in layout.config.iterdir()}


def test_values_that_the_system_refuses_are_told(make_layout: MakeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_values", lambda _: {"run": "/run"})
    with pytest.raises(CannotRun, match=r"the configuration cannot be rendered: template 'nginx.conf' cannot be rendered"):
        prepare.configuration(make_layout())


@pytest.fixture
def place(programs: Path, open_folder: Path) -> Layout:
    """A layout that PostgreSQL's account can reach."""
    layout = Layout(open_folder / "home", programs, {"postgres": 1}, (), unprivileged_account(), "serving")
    prepare.folders(layout)
    prepare.passwords(layout)
    return layout


@pytest.mark.local
def test_a_cluster_has_checksums_passwords_and_is_made_once(place: Layout) -> None:
    prepare.database(place)
    rules = [line for line in (place.database / "pg_hba.conf").read_text().splitlines() if line and not line.startswith("#")]
    assert {line.split()[-1] for line in rules} == {"scram-sha-256"}
    assert not (place.run / "initial-password").exists()
    if place.account:
        assert place.database.stat().st_uid == pwd.getpwnam(place.account).pw_uid
    before = (place.database / "PG_VERSION").stat().st_mtime_ns
    prepare.database(place)
    assert (place.database / "PG_VERSION").stat().st_mtime_ns == before


@pytest.mark.local
def test_a_cluster_that_cannot_be_made_leaves_no_half(place: Layout) -> None:
    half = place.database.with_suffix(".new")
    half.mkdir()
    (half / "PG_VERSION").write_text("15")
    (place.secrets / "postgres.password").write_text("")
    with pytest.raises(CannotRun, match=r"initdb failed with 1: .*password file .* is empty"):
        prepare.database(place)
    assert not (place.run / "initial-password").exists()
    assert not place.database.exists()
    prepare.write_private(place.secrets / "postgres.password", "secret")
    prepare.database(place)
    assert not half.exists()


@pytest.mark.local
def test_what_is_no_cluster_is_never_replaced(place: Layout) -> None:
    place.database.mkdir()
    (place.database / "letters").touch()
    with pytest.raises(CannotRun, match="exists and holds no database; move it away"):
        prepare.database(place)
    assert (place.database / "letters").exists()


@pytest.mark.local
def test_each_role_reaches_its_own_and_nothing_more(system: LocalTarget) -> None:
    layout = system.layout

    def connect(role: str, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(layout.dsn(role, database), passfile=str(layout.secrets / "passfile"), connect_timeout=10)

    with connect("backup", "predictions") as connection:
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM predictions")
    with connect("monitor", "predictions") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM predictions")
    with connect("serving", "mlflow") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM experiments")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(layout.dsn("serving", "predictions"), password="wrong", connect_timeout=10)
    prepare.roles(layout)
    connect("serving", "predictions").close()
