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
DRILLS_KEY = ("ml-system", "drills")
_OBJECTS_USER = "ml-system"
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
    return decoded(have[DRILLS_KEY])["api-key"]


def _passwords(have: Values) -> Values:
    def kept(place: str, name: str, key: str) -> str:
        return have.get((place, name), {}).get(key) or secrets.token_urlsafe(24)

    passwords = {role: kept("data", "postgres-passwords", role) for role in ROLES}
    store = {"access-key": _OBJECTS_USER, "secret-key": kept("data", "minio", "secret-key")}
    # One account for all: the store's own are made by its own interface, which is not S3.
    credentials = {
        "credentials": f"[default]\naws_access_key_id = {store['access-key']}\naws_secret_access_key = {store['secret-key']}\n"
    }
    key = kept(*DRILLS_KEY, "api-key")
    keys = {"keys": [{"name": "drills", "sha256": hashlib.sha256(key.encode()).hexdigest()}]}
    return {
        DRILLS_KEY: {"api-key": key},
        ("ml-system", "ml-api-keys"): {"api-keys.json": json.dumps(keys)},
        ("ml-system", "ml-database"): {"serving": passwords["serving"]},
        ("ml-system", "ml-objects"): credentials,
        ("data", "postgres-passwords"): passwords,
        ("data", "pgbackrest"): {**store, "cipher-pass": kept("data", "pgbackrest", "cipher-pass")},
        ("data", "minio"): store,
        ("data", "mlflow-objects"): credentials,
    }


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
