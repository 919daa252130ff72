"""Accounts of a real MinIO: each does what its role needs, and nothing with what belongs to another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from botocore.session import get_session  # type: ignore[import-untyped]

from sre.config import PROJECT
from sre.targets.certificates import Authority
from system.errors import StorageError
from system.storage import accounts
from system.storage.s3 import S3Store
from tests import minio_server
from tests.minio_server import MinioServer

FILE = PROJECT / "k8s" / "base" / "objects" / "accounts.json"
BUCKETS = ("ml-datasets", "ml-models-staging", "ml-models-production", "ml-backups", "ml-velero")
# What an account with each right may do in a bucket.
MAY = {None: set[str](), "read": {"list", "get"}, "write": {"list", "get", "put"}, "own": {"list", "get", "put", "delete"}}


def secrets(folder: Path, grants: accounts.Grants) -> Path:
    folder.mkdir()
    for account in grants:
        (folder / account).write_text(f"secret-of-{account}", encoding="utf-8")
    return folder


def as_account(minio: MinioServer, account: str) -> Any:
    return get_session().create_client(
        "s3", endpoint_url=f"http://{minio.address}", region_name="us-east-1", aws_access_key_id=account,
        aws_secret_access_key=f"secret-of-{account}",
    )  # fmt: skip


def done(client: Any, bucket: str) -> set[str]:
    """What the client may do there."""
    tries: dict[str, Callable[[], Any]] = {
        "list": lambda: client.list_objects_v2(Bucket=bucket),
        "get": lambda: client.get_object(Bucket=bucket, Key="theirs"),
        "put": lambda: client.put_object(Bucket=bucket, Key="mine", Body=b"1"),
        "delete": lambda: client.delete_object(Bucket=bucket, Key="mine"),
    }
    found = set()
    for what, attempt in tries.items():
        try:
            attempt()
            found.add(what)
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDenied":
                raise
    return found


@pytest.fixture
def whole(s3: S3Store, client: Any) -> None:
    """All buckets, with an object in each."""
    del s3
    for bucket in BUCKETS:
        if bucket == "ml-velero" and bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="theirs", Body=b"1")


@pytest.mark.usefixtures("whole")
def test_each_account_reaches_its_own_buckets_and_no_other(aws: MinioServer, tmp_path: Path) -> None:
    grants = accounts.read_grants(FILE)
    folder = secrets(tmp_path / "secrets", grants)
    # Twice, as a job that is run again.
    for _ in range(2):
        lines = accounts.make(aws.objects_url, grants, folder)
    assert "account ml-training: ml-datasets write, ml-models-production write" in lines
    found = {account: {bucket: done(as_account(aws, account), bucket) for bucket in BUCKETS} for account in grants}
    assert found == {account: {bucket: MAY[rights.get(bucket)] for bucket in BUCKETS} for account, rights in grants.items()}


@pytest.mark.usefixtures("whole")
def test_what_is_taken_from_an_account_is_gone_and_a_new_secret_counts(aws: MinioServer, tmp_path: Path) -> None:
    grants: accounts.Grants = {"mover": {"ml-backups": "own"}}
    folder = secrets(tmp_path / "secrets", grants)
    accounts.make(aws.objects_url, grants, folder)
    assert done(as_account(aws, "mover"), "ml-backups") == MAY["own"]
    accounts.make(aws.objects_url, {"mover": {"ml-datasets": "read"}}, folder)
    assert done(as_account(aws, "mover"), "ml-backups") == set()
    assert done(as_account(aws, "mover"), "ml-datasets") == MAY["read"]
    (folder / "mover").write_text("another-secret", encoding="utf-8")
    accounts.make(aws.objects_url, grants, folder)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        as_account(aws, "mover").list_objects_v2(Bucket="ml-backups")


def test_over_tls_with_the_authority_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grants: accounts.Grants = {"mover": {"ml-backups": "own"}}
    folder = secrets(tmp_path / "secrets", grants)
    (tmp_path / "minio").mkdir()
    with minio_server.serve(tmp_path / "minio", Authority("test")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = server.objects_url.replace("127.0.0.1", "localhost")
        with pytest.raises(StorageError, match=r"account mover of .* cannot be made: .*certificate verify failed"):
            accounts.make(url, grants, folder)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "minio" / "ca.pem"))
        assert accounts.make(url, grants, folder) == ["account mover: ml-backups own"]


def test_who_may_not_make_accounts_is_told(aws: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grants: accounts.Grants = {"mover": {"ml-backups": "own"}}
    folder = secrets(tmp_path / "secrets", grants)
    accounts.make(aws.objects_url, grants, folder)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mover")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-mover")
    with pytest.raises(StorageError, match=r"account mover of s3://.* cannot be made: .*403"):
        accounts.make(aws.objects_url, grants, folder)


def test_an_account_without_a_secret_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"account mover has no secret key: .* `sre up --target kubernetes` makes it"):
        accounts.make("s3://127.0.0.1:1", {"mover": {"ml-backups": "own"}}, tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        "not JSON", [], {"schema": accounts.SCHEMA}, {"schema": "other/1", "accounts": {}},
        {"schema": accounts.SCHEMA, "accounts": {"mover": {"ml-backups": "*"}}},
        {"schema": accounts.SCHEMA, "accounts": {"mover": ["ml-backups"]}},
    ],
)  # fmt: skip
def test_a_file_that_is_anything_else_is_refused(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    with pytest.raises(StorageError, match=f"accounts {path}"):
        accounts.read_grants(path)


def test_no_policy_says_everything() -> None:
    for rights in accounts.read_grants(FILE).values():
        for statement in accounts.policy(rights)["Statement"]:
            assert "*" not in "".join(statement["Action"])
            assert all(at.split(":::")[1].split("/")[0] in BUCKETS for at in statement["Resource"])
