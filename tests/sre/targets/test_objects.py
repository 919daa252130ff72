from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sre.errors import StepFailed
from sre.targets.certificates import Authority
from sre.targets.objects import S3, Folder, Objects
from tests import minio_server

BUCKET, KEY = "ml-models-production", "digits/7/model.onnx"
CONTENT = bytes(range(256)) * 5000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, str, str]]:
    """Endpoint, authority and keys of a MinIO that speaks TLS and has the bucket."""
    folder = tmp_path_factory.mktemp("minio")
    with minio_server.serve(folder, Authority("tests", timedelta(days=1))) as minio:
        endpoint = f"https://localhost:{minio.address.rpartition(':')[2]}"
        minio.make_bucket(BUCKET, folder / "ca.pem")
        yield endpoint, folder / "ca.pem", minio.user, minio.password


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Folder(tmp_path)
    return S3(*request.getfixturevalue("server"))


def test_what_is_written_is_read_and_can_be_written_anew(objects: Objects) -> None:
    for content in (CONTENT, b""):
        objects.put(BUCKET, KEY, content)
        assert objects.get(BUCKET, KEY) == content


def test_what_is_not_there_is_named(objects: Objects) -> None:
    with pytest.raises(StepFailed, match=f"object {BUCKET}/no/such of .* cannot be read: "):
        objects.get(BUCKET, "no/such")


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / BUCKET).touch()
    with pytest.raises(StepFailed, match=f"object {BUCKET}/{KEY} of .* cannot be written: "):
        Folder(tmp_path).put(BUCKET, KEY, CONTENT)


def test_keys_that_are_wrong_do_not_get_in_and_are_not_told(server: tuple[str, Path, str, str]) -> None:
    endpoint, authority, user, _ = server
    with pytest.raises(StepFailed, match="cannot be written") as refused:
        S3(endpoint, authority, user, "not-the-secret").put(BUCKET, KEY, CONTENT)
    assert "not-the-secret" not in str(refused.value)


def test_a_server_that_another_authority_vouches_for_is_not_spoken_to(server: tuple[str, Path, str, str], tmp_path: Path) -> None:
    endpoint, _, *keys = server
    (tmp_path / "ca.pem").write_bytes(Authority("others", timedelta(days=1)).pem)
    with pytest.raises(StepFailed, match="CERTIFICATE_VERIFY_FAILED"):
        S3(endpoint, tmp_path / "ca.pem", *keys).get(BUCKET, KEY)


def test_every_object_is_read_whole_and_listed_by_its_beginning(server: tuple[str, Path, str, str]) -> None:
    store = S3(*server)
    store.put(BUCKET, "list/a", b"a")
    store.put(BUCKET, "list/b", b"")
    assert store.keys(BUCKET, "list/") == ["list/a", "list/b"]
    assert store.keys(BUCKET, "nothing begins so") == []
    contents = store.contents()
    assert contents[f"{BUCKET}/list/a"] == hashlib.sha256(b"a").hexdigest()
    assert contents[f"{BUCKET}/list/b"] == hashlib.sha256(b"").hexdigest()
    with pytest.raises(StepFailed, match=r"object no-such-bucket/\* of .* cannot be listed"):
        store.keys("no-such-bucket")


def test_a_store_that_does_not_answer_lists_nothing(server: tuple[str, Path, str, str]) -> None:
    _, authority, user, _ = server
    with pytest.raises(StepFailed, match="cannot be listed"):
        S3(server[0], authority, user, "not-the-secret").contents()
