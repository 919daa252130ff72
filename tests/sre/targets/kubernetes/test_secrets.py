from __future__ import annotations

import base64
import hashlib
import json
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sre.config import PROJECT
from sre.targets.backups import NAMESPACES
from sre.targets.kubernetes import secrets


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, Any], ...]:
    return secrets.render()


def values(objects: tuple[dict[str, Any], ...], place: str, name: str) -> dict[str, str]:
    found = next(one for one in objects if (one["metadata"]["namespace"], one["metadata"]["name"]) == (place, name))
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def test_every_password_is_another(made: tuple[dict[str, Any], ...]) -> None:
    passwords, accounts = values(made, "data", "postgres-passwords"), values(made, "data", "object-accounts")
    assert set(passwords) == set(secrets.ROLES)
    others = [
        values(made, "data", "minio")["secret-key"],
        values(made, "data", "pgbackrest")["cipher-pass"],
        secrets.drills_key(made),
    ]
    assert len({*passwords.values(), *accounts.values(), *others}) == len(passwords) + len(accounts) + 3


def test_both_ends_are_told_the_same(made: tuple[dict[str, Any], ...]) -> None:
    assert values(made, "ml-system", "ml-database")["serving"] == values(made, "data", "postgres-passwords")["serving"]
    drills = values(made, *secrets.DRILLS)
    assert {role: drills[role] for role in secrets.DRILLS_ROLES}.items() <= values(made, "data", "postgres-passwords").items()
    assert values(made, "data", "restore")["cipher-pass"] == values(made, "data", "pgbackrest")["cipher-pass"]
    keys = json.loads(values(made, "ml-system", "ml-api-keys")["api-keys.json"])["keys"]
    assert keys == [{"name": "drills", "sha256": hashlib.sha256(secrets.drills_key(made).encode()).hexdigest()}]


def test_each_secret_holds_the_keys_of_one_account_and_the_store_knows_it(made: tuple[dict[str, Any], ...]) -> None:
    accounts = values(made, "data", "object-accounts")
    grants = json.loads((PROJECT / "k8s" / "base" / "objects" / "accounts.json").read_text(encoding="utf-8"))["accounts"]
    assert set(accounts) == set(grants)
    holders: dict[tuple[str, str], set[str]] = {}
    for one in made:
        place = (one["metadata"]["namespace"], one["metadata"]["name"])
        if place != ("data", "object-accounts"):
            text = "\n".join(values(made, *place).values())
            holders[place] = {account for account, secret in accounts.items() if secret in text}
    assert all(len(found) <= 1 for found in holders.values())
    assert {account for found in holders.values() for account in found} == set(accounts)
    root = values(made, "data", "minio")["secret-key"]
    others = [one for one in made if one["metadata"]["name"] != "minio"]
    assert not [one for one in others if root in "\n".join(values((one,), *_place(one)).values())]


def _place(one: dict[str, Any]) -> tuple[str, str]:
    return one["metadata"]["namespace"], one["metadata"]["name"]


def test_what_is_there_is_kept(made: tuple[dict[str, Any], ...]) -> None:
    assert secrets.render(made) == made


def test_what_is_missing_is_made_and_the_rest_kept(made: tuple[dict[str, Any], ...]) -> None:
    without = tuple(one for one in made if one["metadata"]["name"] != "pgbackrest")
    again = secrets.render(without)
    assert values(again, "data", "pgbackrest")["cipher-pass"] != values(made, "data", "pgbackrest")["cipher-pass"]
    assert values(again, "data", "postgres-passwords") == values(made, "data", "postgres-passwords")


def test_a_missing_certificate_makes_all_of_them_anew(made: tuple[dict[str, Any], ...]) -> None:
    again = secrets.render(one for one in made if one["metadata"]["name"] != "minio-tls")
    authorities = {values(again, place, "authority")["ca.crt"] for place in NAMESPACES}
    assert len(authorities) == 1
    assert authorities.isdisjoint({values(made, "data", "authority")["ca.crt"]})
    assert values(again, "data", "postgres-tls") != values(made, "data", "postgres-tls")


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("postgres-tls", "postgres-2.postgres-members.data.svc"),
        ("postgres-tls", "postgres.data.svc"),
        ("postgres-tls", "127.0.0.1"),
        ("minio-tls", "minio.data.svc"),
        ("minio-tls", "minio-3.minio-members.data.svc"),
    ],
)
def test_a_client_that_trusts_the_authority_believes_the_server(
    made: tuple[dict[str, Any], ...], tmp_path: Path, server: str, host: str
) -> None:
    chain = values(made, "data", server)
    (tmp_path / "chain.pem").write_text(chain["tls.key"] + chain["tls.crt"], encoding="utf-8")
    here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    here.load_cert_chain(tmp_path / "chain.pem")
    there = ssl.create_default_context(cadata=values(made, "data", "authority")["ca.crt"])
    bios = [ssl.MemoryBIO() for _ in range(4)]
    client = there.wrap_bio(bios[0], bios[1], server_hostname=host)
    answering = here.wrap_bio(bios[2], bios[3], server_side=True)
    for _ in range(3):
        for end, out, into in ((client, bios[1], bios[2]), (answering, bios[3], bios[0])):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            into.write(out.read())
    assert client.version() == "TLSv1.3"


def test_certificates_last_until_they_are_made_anew(made: tuple[dict[str, Any], ...]) -> None:
    certificate = x509.load_pem_x509_certificate(values(made, "data", "minio-tls")["tls.crt"].encode())
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=31)
