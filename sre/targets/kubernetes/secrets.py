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
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Values = dict[tuple[str, str], dict[str, str]]

NAMESPACES = ("ml-system", "data", "monitoring")
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
_PEM = serialization.Encoding.PEM


def render(existing: Iterable[Mapping[str, Any]] = ()) -> tuple[dict[str, Any], ...]:
    """All Secrets as objects of the API, sorted by namespace and name.

    Args:
        existing: Secrets that the cluster has, as its API gives them; others than ours are ignored.
    """
    have = {(one["metadata"]["namespace"], one["metadata"]["name"]): _decoded(one) for one in existing}
    made = _passwords(have) | _certificates(have)
    return tuple(_object(place, name, values) for (place, name), values in sorted(made.items()))


def drills_key(objects: Iterable[Mapping[str, Any]]) -> str:
    """The API key that the toolkit shows.

    Raises:
        KeyError: it is not among these Secrets.
    """
    have = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in objects}
    return _decoded(have[DRILLS_KEY])["api-key"]


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
    authority = _Authority()
    made: Values = {(place, "authority"): {"ca.crt": authority.pem} for place in NAMESPACES}
    for server, hosts in _SERVERS.items():
        made["data", server] = authority.issue(hosts)
    return made


def _lasts(certificate: str) -> bool:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc > datetime.now(UTC) + _RENEW_BEFORE


def _decoded(secret: Mapping[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


def _object(place: str, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": place, "labels": {"app.kubernetes.io/managed-by": "sre"}},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


class _Authority:
    """Signs the certificates of one cluster's servers."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ml-system authority")])
        self._certificate = (
            self._begin(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        """Its own certificate."""
        return self._certificate.public_bytes(_PEM).decode()

    def issue(self, hosts: tuple[str, ...]) -> dict[str, str]:
        """Certificate and private key of a server that may also show it to others of its kind."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [*map(x509.DNSName, hosts), x509.IPAddress(ip_address("127.0.0.1"))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return {"tls.crt": certificate.public_bytes(_PEM).decode(), "tls.key": private.decode()}

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
