"""A second repository for the database's backups, in the store outside the cluster that Velero's go to.

All that the members know of it stands in one Secret: pgBackRest takes each setting from a variable of its environment.
"""

from __future__ import annotations

import configparser
import hashlib
import ipaddress
import json
import secrets
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sre.errors import CannotRun, StepFailed, UsageError
from sre.targets.kubernetes.secrets import as_object, decoded
from sre.targets.kubernetes.velero_install import Store
from sre.targets.objects import S3

NAME, NAMESPACE = "off-site", "data"
PATH = "/pgbackrest"
REGION = "us-east-1"
# On the pods' template: they take variables only when they begin.
DIGEST = "sre/off-site"
_PASS = "PGBACKREST_REPO2_CIPHER_PASS"  # noqa: S105 - its name
_AUTHORITY = "ca.crt"
ANSWER_WITHIN_S = 10.0


def opened(store: Store) -> S3:
    """A client of this machine.

    Raises:
        UsageError: a file of the store is not there, or holds no keys.
    """
    return S3(store.url, store.authority, *keys(store))


def keys(store: Store) -> tuple[str, str]:
    """Access key and secret key of profile `default`.

    Raises:
        UsageError: the file is not there, or holds none.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(store.credentials.read_text(encoding="utf-8"))
        profile = parser["default"]
        return profile["aws_access_key_id"], profile["aws_secret_access_key"]
    except (OSError, KeyError, configparser.Error) as error:
        # Its own words would hold what the file holds.
        raise UsageError(
            f"{store.credentials} holds no keys for the store ({type(error).__name__}); see SRE_VELERO_CREDENTIALS"
        ) from error


def check_unused(store: Store) -> None:
    """A new database must not begin in the repository of another, nor be restored from it unasked.

    Raises:
        CannotRun: the repository holds something, or cannot be looked at.
        UsageError: a file of the store is not there, or holds no keys.
    """
    try:
        found = opened(store).keys(store.bucket, f"{PATH[1:]}/")
    except StepFailed as error:
        raise CannotRun(f"the store outside the cluster cannot be looked at: {error}") from error
    if found:
        raise CannotRun(
            f"bucket {store.bucket} holds backups of a database ({found[0]} and {len(found) - 1} more): bring that system back "
            "with `sre rebuild`, or let SRE_OFF_SITE_BUCKET name an empty one"
        )
    _check_named(store)


def _check_named(store: Store) -> None:
    # pgBackRest compares the host with the names of a certificate and never with its addresses; S3 itself was answered already.
    parts = urlsplit(store.url)
    host = str(parts.hostname)
    own = ssl.create_default_context(cafile=store.authority)
    with (
        socket.create_connection((host, parts.port or 443), ANSWER_WITHIN_S) as plain,
        own.wrap_socket(plain, server_hostname=host) as secured,
    ):
        shown = (secured.getpeercert() or {}).get("subjectAltName", ())
    if ("IP Address", host) in shown and ("DNS", host) not in shown:
        raise CannotRun(f"pgBackRest verifies a store by its name, and {host} is an address; let SRE_VELERO_URL name its host")


def secret(store: Store, existing: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The Secret that lets pgBackRest know the repository.

    Args:
        store: with the bucket of the repository.
        existing: Secrets of the cluster; what encrypts the repository is kept.

    Raises:
        UsageError: the URL is no https URL, or a file of the store is not there.
    """
    address, (access_key, secret_key) = _address(store), keys(store)
    values = {
        "TYPE": "s3", "PATH": PATH, "S3_BUCKET": store.bucket, "S3_ENDPOINT": str(address.hostname), "S3_REGION": REGION,
        "STORAGE_PORT": str(address.port or 443), "S3_URI_STYLE": "path", "S3_KEY": access_key, "S3_KEY_SECRET": secret_key,
        "CIPHER_TYPE": "aes-256-cbc", "RETENTION_FULL": "9999999",
    }  # fmt: skip
    authority = {}
    if store.authority is not None:
        values["STORAGE_CA_FILE"] = f"/etc/postgres/{NAME}/{_AUTHORITY}"
        try:
            authority = {_AUTHORITY: store.authority.read_text(encoding="utf-8")}
        except OSError as error:
            raise UsageError(f"{store.authority} cannot be read ({error.strerror}); see SRE_VELERO_CA") from error
    there = found(existing)
    kept = decoded(there).get(_PASS) if there else None
    settings = {f"PGBACKREST_REPO2_{name}": value for name, value in values.items()}
    return as_object(NAMESPACE, NAME, {**settings, _PASS: kept or secrets.token_urlsafe(24), **authority})


def found(existing: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The Secret among these; None when it is not."""
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in existing}
    return names.get((NAMESPACE, NAME))


def policy(store: Store) -> dict[str, Any]:
    """Lets the database's pods reach the store. A host's name is no address, so then any address at that port.

    Raises:
        UsageError: the URL is no https URL.
    """
    address = _address(store)
    rule: dict[str, Any] = {"ports": [{"port": address.port or 443}]}
    try:
        parsed = ipaddress.ip_address(str(address.hostname))
        rule["to"] = [{"ipBlock": {"cidr": f"{parsed}/{parsed.max_prefixlen}"}}]
    except ValueError:
        pass
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "postgres"}}, "policyTypes": ["Egress"], "egress": [rule],
        },
    }  # fmt: skip


def stamped(objects: Iterable[Mapping[str, Any]], of: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same objects; the database's pods begin anew when the Secret is another."""
    digest = hashlib.sha256(json.dumps(of["data"], sort_keys=True).encode()).hexdigest()[:16]
    stamp = [dict(one) for one in objects]
    for one in stamp:
        if (one["kind"], one["metadata"]["name"]) == ("StatefulSet", "postgres"):
            template = one["spec"]["template"]
            metadata = {**template["metadata"], "annotations": {**template["metadata"].get("annotations", {}), DIGEST: digest}}
            one["spec"] = {**one["spec"], "template": {**template, "metadata": metadata}}
    return stamp


def _address(store: Store) -> SplitResult:
    address = urlsplit(store.url)
    if address.scheme != "https" or not address.hostname:
        raise UsageError(f"SRE_VELERO_URL is {store.url!r}; pgBackRest speaks to a store over https only")
    return address
