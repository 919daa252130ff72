"""Both kinds of object store: a folder, and buckets of a real MinIO that a test finds empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session  # type: ignore[import-untyped]

from system.config import BUCKETS
from system.storage.objects import FolderStore, ObjectStore, open_store
from system.storage.s3 import S3Store
from tests import minio_server
from tests.minio_server import MinioServer

KINDS = ("Versions", "DeleteMarkers")


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """A server for the session."""
    with minio_server.serve(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def aws(minio: MinioServer, monkeypatch: pytest.MonkeyPatch) -> MinioServer:
    """The environment of a client of the server, and no other AWS setting."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name, value in minio.environment.items():
        monkeypatch.setenv(name, value)
    return minio


@pytest.fixture
def client(aws: MinioServer) -> Any:
    """A client of our own beside the store, to see what the store does not show."""
    return get_session().create_client("s3", endpoint_url=f"http://{aws.address}", region_name="us-east-1")


@pytest.fixture
def s3(aws: MinioServer, client: Any) -> S3Store:
    """The store, its buckets there and empty, without a version of anything."""
    found = open_store(aws.objects_url)
    assert isinstance(found, S3Store)
    assert len(found.make_buckets({})) == len(BUCKETS)
    for bucket in BUCKETS:
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            left = [{name: item[name] for name in ("Key", "VersionId")} for kind in KINDS for item in page.get(kind, [])]
            if left:
                client.delete_objects(Bucket=bucket, Delete={"Objects": left})
    return found


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    found = open_store((tmp_path / "objects").as_uri())
    assert isinstance(found, FolderStore)
    return found


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each kind in turn, for what both must do."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, ObjectStore)
    return found
