"""The object store in S3: as that in a folder, in MinIO or any other server that speaks S3.

A PUT is whole or not at all, and what it replaces or what a deletion hides stays as a version, since `make_buckets` switches
versioning on. Each body travels with a checksum that the receiver compares. The library takes the account's keys from
`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` or from the file that `AWS_SHARED_CREDENTIALS_FILE` names, and the certificate of
an authority that is not a public one from `AWS_CA_BUNDLE`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from botocore.session import get_session  # type: ignore[import-untyped]

from system.config import BUCKETS
from system.errors import StorageError
from system.storage.objects import ObjectMissing, ObjectStore, check_bucket, check_key, is_key

# What may be tried again is, three times after 1, 2 and 4 s at most. A server that is frozen costs 4 x (3 + 10) + 7 = 59 s; one
# that sends a body byte by byte is waited for, as its every read comes in time.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    s3={"addressing_style": "path"},  # MinIO has no host name for each bucket
)
_REGION = "us-east-1"  # MinIO's, unless it was told otherwise
_PIECE = 1 << 20

Rules: TypeAlias = Mapping[str, Mapping[str, Any]]

_KEYS = "check the account's keys and what it may do"
_REMEDIES = {
    "NoSuchBucket": "make the buckets with `python -m system buckets`",
    "AccessDenied": _KEYS,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE",
    "PartialCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE",
    "SSLError": "AWS_CA_BUNDLE must name the certificate of the authority that vouches for the server",
}
_NO_ANSWER = "check ML_OBJECTS_URL, the network and the server's log"


class S3Store(ObjectStore):
    """Buckets on a server. Each StorageError names bucket and key."""

    def __init__(self, endpoint: str) -> None:
        """Connect to nothing yet.

        Args:
            endpoint: http or https URL of the server.

        Raises:
            StorageError: the keys of the account cannot be read.
        """
        self._endpoint = endpoint
        session = get_session()
        try:
            region = session.get_config_variable("region") or _REGION
            self._client = session.create_client("s3", endpoint_url=endpoint, region_name=region, config=_CONFIG)
        except BotoCoreError as error:
            raise StorageError(f"object store {endpoint} cannot be used: {error}; {_remedy(error)}") from error

    def get(self, bucket: str, key: str) -> bytes:
        """All bytes of one object."""
        with self._streaming("read", bucket, key) as body:
            data: bytes = body.read()
        return data

    def copy(self, bucket: str, key: str, into: Path) -> None:
        """Write one object to a file, in pieces."""
        with self._streaming("copy", bucket, key) as body:
            try:
                with into.open("wb") as target:
                    for piece in body.iter_chunks(_PIECE):
                        target.write(piece)
            except OSError as error:
                raise StorageError(
                    f"cannot copy object {bucket}/{key}: {error.strerror or error}; check {into}, its space and rights"
                ) from error

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write one object, whole and on disk, or not at all; an older one under the key becomes a version."""
        check_key(bucket, key)
        with self._calling("write", bucket, key):
            self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def list(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        check_bucket(bucket)
        with self._calling("list", bucket, f"{prefix}*"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return sorted(item["Key"] for page in pages for item in page.get("Contents", ()) if is_key(item["Key"]))

    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is an object under the key."""
        check_key(bucket, key)
        with self._calling("look for", bucket, key):
            # Asked for by its head, an object and its whole bucket are missing alike: 404 without a word. Of all keys that begin
            # with this one, it would be the first.
            page = self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        return any(item["Key"] == key for item in page.get("Contents", ()))

    def delete(self, bucket: str, key: str) -> None:
        """Remove one object, which becomes a version; one that is not there is no error."""
        check_key(bucket, key)
        with self._calling("delete", bucket, key):
            self._client.delete_object(Bucket=bucket, Key=key)

    def make_buckets(self, rules: Rules) -> tuple[str, ...]:
        """Make the buckets that are missing, keep versions in all, and say what becomes of old objects; may be repeated.

        Args:
            rules: S3 lifecycle configurations by bucket; a bucket without one keeps everything for ever.

        Returns:
            a line for each bucket.

        Raises:
            StorageError: the account may not do so, or the server knows no such rule; buckets before that one are ready.
        """
        lines = []
        for bucket in BUCKETS:
            rule = rules.get(bucket)
            with self._calling("make", bucket, ""):
                with suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
                    self._client.create_bucket(Bucket=bucket)
                self._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
                if rule:
                    self._client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rule)
                else:
                    self._client.delete_bucket_lifecycle(Bucket=bucket)
            names = ", ".join(item["ID"] for item in rule["Rules"]) if rule else "none"
            lines.append(f"{bucket} keeps versions; rules for old objects: {names}")
        return tuple(lines)

    @contextmanager
    def _streaming(self, verb: str, bucket: str, key: str) -> Iterator[Any]:
        check_key(bucket, key)
        with self._calling(verb, bucket, key), closing(self._client.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            yield body

    @contextmanager
    def _calling(self, verb: str, bucket: str, key: str) -> Iterator[None]:
        try:
            yield
        except self._client.exceptions.NoSuchKey:
            raise ObjectMissing(f"object {bucket}/{key} does not exist in {self._endpoint}; `list` shows what does") from None
        except (BotoCoreError, ClientError) as error:
            subject = f"object {bucket}/{key}" if key else f"bucket {bucket}"
            raise StorageError(f"cannot {verb} {subject} in {self._endpoint}: {error}; {_remedy(error)}") from error


def read_rules(path: Path) -> Rules:
    """Lifecycle configurations by bucket, from a document whose `buckets` they are.

    Raises:
        StorageError: it is none.
        InvalidKey: it names a bucket that is not ours.
    """
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8"))["buckets"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"rules {path} cannot be read: {error!r}; `sre backup lifecycle --s3` prints them") from error
    for bucket in found:
        check_bucket(bucket)
    return found


def _remedy(error: Exception) -> str:
    if isinstance(error, ClientError):
        return _REMEDIES.get(error.response["Error"]["Code"], "look at the server's log")
    return _REMEDIES.get(type(error).__name__, _NO_ANSWER)
