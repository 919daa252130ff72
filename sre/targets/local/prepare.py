"""What a local system needs on disk before its processes start: folders, secrets, certificates, configuration, a database."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from psycopg import sql

from sre.config import PROJECT
from sre.errors import CannotRun
from sre.targets.local.layout import Layout
from sre.targets.local.programs import find
from sre.targets.local.tools import ALERTMANAGER_SHARE, RELOCATED_SHARE

# Role -> databases that it owns. The superuser's name is libpq's own default.
ROLES: dict[str, tuple[str, ...]] = {"mlflow": ("mlflow",), "serving": ("predictions",), "backup": (), "monitor": ()}
SUPERUSER = "postgres"
MAX_BODY_BYTES = 5_000_000
SCRAPE_INTERVAL_S = 2
# Long enough that a slow replica is not taken for a frozen one: at 2 s, a stall of the whole machine made the ingress give up on
# every replica at once, and a second of slowness became seconds of 502.
ANSWER_TIMEOUT_S = 5


def folders(layout: Layout) -> None:
    """Make every folder. Other accounts may pass through to the database's, and read nothing else."""
    for folder in (layout.config, layout.logs, layout.run, layout.objects, layout.home / "data" / "prometheus"):
        folder.mkdir(parents=True, exist_ok=True)
    layout.secrets.mkdir(mode=0o700, exist_ok=True)
    share, unpacked = layout.run / RELOCATED_SHARE, layout.tools / "root" / ALERTMANAGER_SHARE
    if unpacked.exists() and not share.is_symlink():
        share.parent.mkdir(exist_ok=True)
        share.symlink_to(unpacked)
    if layout.account:
        layout.home.chmod(0o711)
        (layout.home / "data").chmod(0o711)
        layout.run.chmod(0o711)


def passwords(layout: Layout) -> None:
    """Make what is missing: one password per database role, libpq's password file, the API key and the file of its hash."""
    lines = [f"127.0.0.1:*:*:{role}:{_secret(layout.secrets / f'{role}.password')}" for role in (SUPERUSER, *ROLES)]
    write_private(layout.secrets / "passfile", "\n".join(lines) + "\n")
    key = _secret(layout.secrets / "api-key")
    keys = {"keys": [{"name": "drills", "sha256": hashlib.sha256(key.encode()).hexdigest()}]}
    (layout.config / "api-keys.json").write_text(json.dumps(keys, indent=2) + "\n", encoding="utf-8")


def certificates(layout: Layout) -> None:
    """Make a certificate authority and the ingress's certificate. The authority's key is never written: it signs once."""
    now = datetime.now(UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local drill authority")])

    def begin(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    authority_certificate = (
        begin(authority, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server_certificate = (
        begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), server_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (layout.config / "ca.pem").write_bytes(authority_certificate.public_bytes(pem))
    (layout.config / "server.pem").write_bytes(server_certificate.public_bytes(pem))
    private = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(layout.secrets / "server.key", private.decode())


def configuration(layout: Layout) -> None:
    """Render the system's own templates for this layout.

    Raises:
        CannotRun: the system refuses the values; the message holds its words.
    """
    values = layout.config / "values.json"
    values.write_text(json.dumps(_values(layout), indent=2) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "system", "render", "--values", str(values), "--into", str(layout.config)]
    done = subprocess.run(command, cwd=layout.run, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise CannotRun(f"the configuration cannot be rendered: {done.stderr.strip()[-600:]}")


def database(layout: Layout) -> None:
    """Make an empty database cluster with checksums and passwords, unless there is one.

    Raises:
        CannotRun: initdb failed (the message holds its words), or the folder holds something else.
    """
    if (layout.database / "PG_VERSION").exists():
        return
    if layout.database.exists():
        raise CannotRun(f"{layout.database} exists and holds no database; move it away, or run `sre down --purge`")
    # Made beside and renamed when whole: what a SIGKILL leaves half is never taken for a cluster.
    fresh = layout.database.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    postgres = find("postgres", layout.tools)
    fresh.mkdir(mode=0o700)
    password = layout.run / "initial-password"
    write_private(password, (layout.secrets / f"{SUPERUSER}.password").read_text(encoding="utf-8"))
    if layout.account:
        give_to(layout.account, fresh, password)
    command = [
        str(postgres.companion("initdb")), "--pgdata", str(fresh), "--username", SUPERUSER,
        "--pwfile", str(password), "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C", "--no-sync",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, env={**os.environ, **postgres.environment}, cwd=layout.run, user=layout.account, group=group_of(layout),
            extra_groups=[] if layout.account else None, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        password.unlink()
    if done.returncode:
        raise CannotRun(f"initdb failed with {done.returncode}: {done.stderr.strip()[-600:]}")
    fresh.rename(layout.database)


def roles(layout: Layout) -> None:
    """Make the roles and their databases in the running server, each role with nothing beyond its own."""
    url = layout.dsn(SUPERUSER, "postgres")
    with psycopg.connect(url, passfile=str(layout.secrets / "passfile"), autocommit=True, connect_timeout=10) as connection:
        have = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role, owned in ROLES.items():
            name = sql.Identifier(role)
            password = (layout.secrets / f"{role}.password").read_text(encoding="utf-8").strip()
            verb = sql.SQL("ALTER ROLE" if role in have else "CREATE ROLE")
            attributes = sql.SQL("LOGIN REPLICATION" if role == "backup" else "LOGIN")
            connection.execute(sql.SQL("{} {} {} PASSWORD {}").format(verb, name, attributes, sql.Literal(password)))
            for owned_database in owned:
                exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [owned_database]).fetchone()
                if not exists:
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(owned_database), name))
        connection.execute("GRANT pg_monitor TO monitor")
        connection.execute("GRANT pg_read_all_data TO backup")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no moment readable by others."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def give_to(account: str, *paths: Path) -> None:
    """Make the unprivileged account the owner of paths and of all below them."""
    entry = pwd.getpwnam(account)
    for path in paths:
        for item in (path, *path.rglob("*")) if path.is_dir() else (path,):
            os.chown(item, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def group_of(layout: Layout) -> int | None:
    """Group id of the unprivileged account, None when there is none."""
    return pwd.getpwnam(layout.account).pw_gid if layout.account else None


def _secret(path: Path) -> str:
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text(encoding="utf-8").strip()


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _account_and_group(layout: Layout) -> str:
    # The group's name differs: nogroup on Debian, nobody elsewhere.
    return f"{layout.account} {grp.getgrgid(pwd.getpwnam(layout.account).pw_gid).gr_name}" if layout.account else ""


def _values(layout: Layout) -> dict[str, Any]:
    return {
        "run": str(layout.run),
        "logs": str(layout.logs),
        "serving": [{"name": name, "address": layout.address(name)} for name in layout.replicas],
        "ingress": {
            "address": layout.address("ingress"),
            "status_address": layout.address("ingress-status"),
            "certificate": str(layout.config / "server.pem"),
            "certificate_key": str(layout.secrets / "server.key"),
            "user": _account_and_group(layout),
            "workers": 1,
            "rate_per_key": 5000,
            "burst_per_key": 1000,
            "max_body_bytes": MAX_BODY_BYTES,
            "answer_timeout_s": ANSWER_TIMEOUT_S,
            "failures_until_away": 3,
            "away_s": 5,
        },
        "monitoring": {
            "scrape_interval_s": SCRAPE_INTERVAL_S,
            "scrape_timeout_s": 2,
            "alertmanager": layout.address("alertmanager"),
            "least_replicas": len(layout.replicas),
            "runbooks": (PROJECT / "runbooks").as_uri(),
            "jobs": {
                name: layout.address(name)
                for name in ("prometheus", "alertmanager", "node-exporter", "postgres-exporter", "nginx-exporter")
            },
        },
    }
