"""The object store's accounts: each role has its own, which reaches that role's buckets and no other.

Accounts are made by the store's own interface, which is not S3: that of MinIO.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import urllib3
from minio import MinioAdmin
from minio.credentials.providers import EnvAWSProvider
from minio.error import MinioAdminException
from urllib3.exceptions import HTTPError

from system.errors import StorageError

Right = Literal["read", "write", "own"]
Grants = Mapping[str, Mapping[str, Right]]

SCHEMA = "ml.object-accounts/1"
_READ = ("s3:GetObject",)
_WRITE = (*_READ, "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
# What it does to objects, and to the bucket that they are in.
_OBJECT: Mapping[Right, tuple[str, ...]] = {"read": _READ, "write": _WRITE, "own": (*_WRITE, "s3:DeleteObject")}
_BUCKET: Mapping[Right, tuple[str, ...]] = {
    right: ("s3:ListBucket", "s3:GetBucketLocation", *(() if right == "read" else ("s3:ListBucketMultipartUploads",)))
    for right in get_args(Right)
}
_ANSWER_WITHIN_S = 10.0
_TRIES = 3


def read_grants(path: Path) -> Grants:
    """What each account may do with which buckets, from a file: `{"schema": ..., "accounts": {account: {bucket: right}}}`.

    Raises:
        StorageError: it cannot be read, or is anything else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        grants: Grants = document["accounts"]
        odd = {right for rights in grants.values() for right in rights.values()} - set(get_args(Right))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"accounts {path} cannot be read: {error!r}; correct the file") from error
    if document["schema"] != SCHEMA or odd:
        raise StorageError(
            f"accounts {path} are {document['schema']} with rights {sorted(odd)}; take {SCHEMA}, {get_args(Right)}"
        )
    return grants


def policy(rights: Mapping[str, Right]) -> dict[str, Any]:
    """The policy of one account: what it may do in each of its buckets, and nothing elsewhere."""
    statements = []
    for bucket, right in rights.items():
        at = f"arn:aws:s3:::{bucket}"
        statements += [
            {"Effect": "Allow", "Action": list(_BUCKET[right]), "Resource": [at]},
            {"Effect": "Allow", "Action": list(_OBJECT[right]), "Resource": [f"{at}/*"]},
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def make(objects_url: str, grants: Grants, secrets: Path) -> list[str]:
    """Make the accounts with their policies, or bring them to this state.

    Args:
        objects_url: as `ML_OBJECTS_URL` has it; AWS_ACCESS_KEY_ID and its like name who may make accounts.
        grants: by account.
        secrets: folder with a file for each account, its secret key.

    Returns:
        A line per account.

    Raises:
        StorageError: a secret is missing, or the store refuses or does not answer.
    """
    words = {account: _secret(secrets / account) for account in grants}
    admin = _admin(objects_url)
    lines = []
    for account, rights in grants.items():
        try:
            admin.policy_add(account, policy=policy(rights))
            admin.user_add(account, words[account])
            admin.policy_set(account, user=account)
        except (MinioAdminException, HTTPError, OSError, ValueError) as error:
            raise StorageError(
                f"account {account} of {objects_url} cannot be made: {error}; see the object store's log"
            ) from error
        lines.append(f"account {account}: {', '.join(f'{bucket} {right}' for bucket, right in rights.items())}")
    return lines


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"account {path.name} has no secret key: {error}; `sre up --target kubernetes` makes it") from error


def _admin(objects_url: str) -> MinioAdmin:
    parts = urlsplit(objects_url)
    client = urllib3.PoolManager(
        ca_certs=os.environ.get("AWS_CA_BUNDLE"), cert_reqs="CERT_REQUIRED", timeout=_ANSWER_WITHIN_S,
        retries=urllib3.Retry(_TRIES, backoff_factor=0.5),
    )  # fmt: skip
    return MinioAdmin(endpoint=parts.netloc, credentials=EnvAWSProvider(), secure=parts.scheme == "s3+https", http_client=client)
