"""The object store of a system, as far as the toolkit reads and writes models there: a folder, or a server that speaks S3."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sre.errors import StepFailed

ANSWER_WITHIN_S = 10
_AT_ONCE = 8


class Objects(Protocol):
    """Buckets of objects under keys that are relative paths. Both methods raise StepFailed when it was not done."""

    def get(self, bucket: str, key: str) -> bytes:
        """All bytes of one object."""
        ...

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write one object."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Objects are files.

    Attributes:
        root: folder of the buckets.
    """

    root: Path

    def get(self, bucket: str, key: str) -> bytes:
        """Read the file."""
        try:
            return (self.root / bucket / key).read_bytes()
        except OSError as error:
            raise StepFailed(f"object {bucket}/{key} of {self.root} cannot be read: {error.strerror}; train first") from error

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write the file."""
        path = self.root / bucket / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise StepFailed(f"object {bucket}/{key} of {self.root} cannot be written: {error.strerror}; see its disk") from error


class S3:
    """Objects of a server.

    Args:
        endpoint: its https URL.
        authority: file with the certificate of who vouches for it; None where a public one does.
        access_key, secret_key: of an account.
    """

    def __init__(self, endpoint: str, authority: Path | None, access_key: str, secret_key: str) -> None:
        # Imported here: it takes a third of a second, and only drills on a cluster need it.
        from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415
        from botocore.session import get_session  # type: ignore[import-untyped]  # noqa: PLC0415

        self._endpoint = endpoint
        self._client = get_session().create_client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", verify=str(authority) if authority else None,
            aws_access_key_id=access_key, aws_secret_access_key=secret_key,
            # A proxy of the caller's environment knows nothing of this machine's ports.
            config=Config(connect_timeout=ANSWER_WITHIN_S, read_timeout=ANSWER_WITHIN_S, proxies={},
                          retries={"mode": "standard", "total_max_attempts": 3}, s3={"addressing_style": "path"}),
        )  # fmt: skip

    def get(self, bucket: str, key: str) -> bytes:
        """Ask for it."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            content: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise self._refused("read", bucket, key, error) from error
        return content

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Send it, with a checksum that the server compares."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            self._client.put_object(Bucket=bucket, Key=key, Body=content)
        except (BotoCoreError, ClientError) as error:
            raise self._refused("written", bucket, key, error) from error

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys that begin with a prefix, sorted. Raises StepFailed when they cannot be listed."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))
        except (BotoCoreError, ClientError) as error:
            raise self._refused("listed", bucket, f"{prefix}*", error) from error

    def contents(self) -> dict[str, str]:
        """SHA-256 of every object of every bucket by `bucket/key`, each read whole. Raises StepFailed when one cannot be."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            buckets = [bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]]
        except (BotoCoreError, ClientError) as error:
            raise self._refused("listed", "*", "", error) from error
        named = [(bucket, key) for bucket in buckets for key in self.keys(bucket)]
        # Thousands of small ones through one port: each alone would take its time on the way.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            digests = pool.map(lambda of: hashlib.sha256(self.get(*of)).hexdigest(), named)
            return {f"{bucket}/{key}": digest for (bucket, key), digest in zip(named, digests, strict=True)}

    def _refused(self, what: str, bucket: str, key: str, error: Exception) -> StepFailed:
        return StepFailed(f"object {bucket}/{key} of {self._endpoint} cannot be {what}: {error}; see the object store's log")
