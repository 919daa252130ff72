"""The Secrets that the manifests name: made when the system is, never written down beside them.

What a cluster has already is kept, so that making them again changes nothing. Certificates are the exception: when one of them is
about to end, a new authority signs all of them anew, for its key is never written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from sre.targets.backups import NAMESPACES
from sre.targets.certificates import Authority

Values = dict[tuple[str, str], dict[str, str]]

# Who has a password in the database: Patroni's own roles, then those of the system.
ROLES = ("postgres", "replicator", "rewind", "mlflow", "serving", "drills", "backup", "monitor")
# What whoever runs drills shows: an API key, passwords of the database, keys of the object store.
DRILLS = ("monitoring", "drills")
DRILLS_ROLES = ("drills", "backup")
# Of k8s/base/objects/accounts.json: who has the keys of which account of the object store, as a file of the AWS tools. The others
# have theirs in a Secret that holds more.
ACCOUNTS = ("ml-api", "ml-training", "mlflow", "pgbackrest", "restore", "drills", "velero")
_CREDENTIALS = {
    "ml-api": ("ml-system", "ml-objects"), "ml-training": ("ml-system", "ml-training-objects"),
    "mlflow": ("data", "mlflow-objects"), "velero": ("data", "velero-objects"),
}  # fmt: skip
_ROOT = "ml-system"
_MEMBERS = "postgres-members.data.svc"
# Each server: in which Secret, and by which names it is asked.
_SERVERS = {
    "postgres-tls": ("postgres.data.svc", _MEMBERS, f"*.{_MEMBERS}", "localhost"),
    "minio-tls": ("minio.data.svc", "minio-members.data.svc", "*.minio-members.data.svc", "localhost"),
}
_VALID = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)


def render(existing: Iterable[Mapping[str, Any]] = ()) -> tuple[dict[str, Any], ...]:
    """All Secrets as objects of the API, sorted by namespace and name.

    Args:
        existing: Secrets that the cluster has, as its API gives them; others than ours are ignored.
    """
    have = {(one["metadata"]["namespace"], one["metadata"]["name"]): decoded(one) for one in existing}
    made = _passwords(have) | _certificates(have)
    return tuple(as_object(place, name, values) for (place, name), values in sorted(made.items()))


def drills_key(objects: Iterable[Mapping[str, Any]]) -> str:
    """The API key that the toolkit shows.

    Raises:
        KeyError: it is not among these Secrets.
    """
    have = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in objects}
    return decoded(have[DRILLS])["api-key"]


def _passwords(have: Values) -> Values:
    def kept(place: str, name: str, key: str) -> str:
        return have.get((place, name), {}).get(key) or secrets.token_urlsafe(24)

    passwords = {role: kept("data", "postgres-passwords", role) for role in ROLES}
    accounts = {account: kept("data", "object-accounts", account) for account in ACCOUNTS}
    cipher = {"cipher-pass": kept("data", "pgbackrest", "cipher-pass")}
    key = kept(*DRILLS, "api-key")
    keys = {"keys": [{"name": "drills", "sha256": hashlib.sha256(key.encode()).hexdigest()}]}
    return {
        DRILLS: {"api-key": key, **{role: passwords[role] for role in DRILLS_ROLES}, **_keys("drills", accounts["drills"])},
        ("ml-system", "ml-api-keys"): {"api-keys.json": json.dumps(keys)},
        ("ml-system", "ml-database"): {"serving": passwords["serving"]},
        ("data", "postgres-passwords"): passwords,
        ("data", "object-accounts"): accounts,
        ("data", "minio"): _keys(_ROOT, kept("data", "minio", "secret-key")),
        ("data", "pgbackrest"): {**_keys("pgbackrest", accounts["pgbackrest"]), **cipher},
        ("data", "restore"): {**_keys("restore", accounts["restore"]), **cipher},
        **{place: {"credentials": _credentials(account, accounts[account])} for account, place in _CREDENTIALS.items()},
    }


def _keys(account: str, secret: str) -> dict[str, str]:
    return {"access-key": account, "secret-key": secret}


def _credentials(account: str, secret: str) -> str:
    return f"[default]\naws_access_key_id = {account}\naws_secret_access_key = {secret}\n"


def _certificates(have: Values) -> Values:
    names = [*((place, "authority") for place in NAMESPACES), *(("data", server) for server in _SERVERS)]
    if all(name in have for name in names) and all(_lasts(have["data", server]["tls.crt"]) for server in _SERVERS):
        return {name: have[name] for name in names}
    authority = Authority("ml-system authority", _VALID)
    made: Values = {(place, "authority"): {"ca.crt": authority.pem.decode()} for place in NAMESPACES}
    for server, hosts in _SERVERS.items():
        # Members of a cluster show it to one another too.
        certificate, key = authority.issue(hosts[0], client=True, hosts=hosts)
        made["data", server] = {"tls.crt": certificate.decode(), "tls.key": key}
    return made


def _lasts(certificate: str) -> bool:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc > datetime.now(UTC) + _RENEW_BEFORE


def decoded(secret: Mapping[str, Any]) -> dict[str, str]:
    """The values of a Secret by their keys."""
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


def as_object(place: str, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """A Secret as the API takes it, known as ours."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": place, "labels": {"app.kubernetes.io/managed-by": "sre"}},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
