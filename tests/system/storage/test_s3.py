"""What only S3 has: accounts, a network, versions that the server keeps."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sre.targets.certificates import Authority
from system.errors import StorageError
from system.storage.objects import InvalidKey, ObjectMissing, ObjectStore, open_store
from system.storage.s3 import S3Store, read_rules
from tests import minio_server
from tests.minio_server import MinioServer

BUCKET = "ml-datasets"
PIECE = 1 << 16


def versions(client: Any, key: str) -> list[bytes]:
    """What was ever put under the key, oldest first."""
    found = sorted(client.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"], key=lambda item: item["LastModified"])
    return [client.get_object(Bucket=BUCKET, Key=key, VersionId=item["VersionId"])["Body"].read() for item in found]


@contextmanager
def cut_after(address: str, *, up: int | None = None, down: int | None = None) -> Iterator[str]:
    """A way to the server on which every connection breaks after so many bytes up or down; its URL."""
    host, _, port = address.partition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket, left: int | None) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(PIECE if left is None else min(PIECE, left)):
                target.sendall(data)
                if left is not None and (left := left - len(data)) <= 0:
                    break
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            outside = socket.create_connection((host, int(port)))
            for one in ((inside, outside, up), (outside, inside, down)):
                threading.Thread(target=carry, args=one, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"s3://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_what_is_replaced_or_deleted_stays_as_a_version(s3: S3Store, client: Any) -> None:
    for data in (b"1", b"2"):
        s3.put(BUCKET, "a/key", data)
    s3.delete(BUCKET, "a/key")
    assert not s3.exists(BUCKET, "a/key")
    assert s3.list(BUCKET) == []
    with pytest.raises(ObjectMissing):
        s3.get(BUCKET, "a/key")
    assert versions(client, "a/key") == [b"1", b"2"]


def test_more_keys_than_one_answer_holds_are_all_listed(s3: S3Store) -> None:
    keys = [f"many/{number:04}" for number in range(1001)]
    for key in keys:
        s3.put(BUCKET, key, b"")
    assert s3.list(BUCKET, "many/") == keys


def test_what_others_put_under_strange_keys_is_not_listed(s3: S3Store, client: Any) -> None:
    for key in ("a/key", "a/.hidden", "with space"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    assert s3.list(BUCKET) == ["a/key"]


def test_an_object_larger_than_one_piece_is_copied(s3: S3Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    s3.put(BUCKET, "large", data)
    s3.copy(BUCKET, "large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_a_bucket_that_is_missing_is_no_missing_object(aws: MinioServer, tmp_path: Path) -> None:
    with minio_server.serve(tmp_path) as empty:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", empty.password)
            store = open_store(empty.objects_url)
        for verb, use in (
            ("read", lambda: store.get(BUCKET, "key")),
            ("write", lambda: store.put(BUCKET, "key", b"")),
            ("look for", lambda: store.exists(BUCKET, "key")),
            ("delete", lambda: store.delete(BUCKET, "key")),
            ("list", lambda: store.list(BUCKET, "key")),
        ):
            with pytest.raises(StorageError, match=rf"cannot {verb} object ml-datasets/key.*python -m system buckets") as caught:
                use()
            assert not isinstance(caught.value, ObjectMissing)


def test_keys_that_the_server_does_not_know_are_named(s3: S3Store, aws: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-for-sure")
    with pytest.raises(
        StorageError, match=r"cannot read object ml-datasets/a/key.*SignatureDoesNotMatch.*check the account's keys"
    ):
        open_store(aws.objects_url).get(BUCKET, "a/key")


def test_keys_come_from_a_file(s3: S3Store, aws: MinioServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {aws.user}\naws_secret_access_key = {aws.password}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    open_store(aws.objects_url).put(BUCKET, "a/key", b"x")
    assert s3.get(BUCKET, "a/key") == b"x"


def test_without_keys_the_remedy_is_named(aws: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        StorageError, match=r"cannot be used: Partial credentials.*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ):
        open_store(aws.objects_url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(
        StorageError, match=r"cannot read object ml-datasets/key.*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ):
        open_store(aws.objects_url).get(BUCKET, "key")


def test_a_server_that_is_away_is_asked_again_and_then_named(aws: MinioServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        StorageError, match=rf"cannot write object ml-datasets/key in http://127.0.0.1:{port}.*check ML_OBJECTS_URL"
    ):
        open_store(f"s3://127.0.0.1:{port}").put(BUCKET, "key", b"")


def test_an_upload_that_is_cut_leaves_the_old_object(s3: S3Store, aws: MinioServer, client: Any) -> None:
    s3.put(BUCKET, "key", b"old")
    with cut_after(aws.address, up=500_000) as url, pytest.raises(StorageError, match="cannot write object ml-datasets/key"):
        open_store(url).put(BUCKET, "key", b"x" * 2_000_000)
    assert s3.get(BUCKET, "key") == b"old"
    assert versions(client, "key") == [b"old"]


def test_a_download_that_is_cut_is_no_object(s3: S3Store, aws: MinioServer, tmp_path: Path) -> None:
    s3.put(BUCKET, "key", b"x" * 2_000_000)
    with cut_after(aws.address, down=500_000) as url:
        cut: ObjectStore = open_store(url)
        with pytest.raises(StorageError, match="cannot read object ml-datasets/key"):
            cut.get(BUCKET, "key")
        with pytest.raises(StorageError, match="cannot copy object ml-datasets/key"):
            cut.copy(BUCKET, "key", tmp_path / "copy")


def test_tls_needs_the_authority(aws: MinioServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with minio_server.serve(tmp_path, Authority()) as server:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.password)
        with pytest.raises(StorageError, match=r"cannot read object ml-datasets/key in https://.*AWS_CA_BUNDLE must name"):
            open_store(server.objects_url).get(BUCKET, "key")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        store = open_store(server.objects_url)
        assert isinstance(store, S3Store)
        assert len(store.make_buckets({})) == 4
        store.put(BUCKET, "key", b"x")
        assert store.get(BUCKET, "key") == b"x"


def test_rules_are_set_and_taken_away(s3: S3Store, client: Any) -> None:
    rule = {
        "ID": "versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 90},
    }
    assert s3.make_buckets({BUCKET: {"Rules": [rule]}})[0] == "ml-datasets keeps versions; rules for old objects: versions"
    (found,) = client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert (found["ID"], found["NoncurrentVersionExpiration"]) == ("versions", {"NoncurrentDays": 90})
    s3.make_buckets({})
    with pytest.raises(client.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        client.get_bucket_lifecycle_configuration(Bucket=BUCKET)
    assert client.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"


def test_a_rule_that_the_server_does_not_know_is_named_with_its_bucket(s3: S3Store) -> None:
    rule = {
        "ID": "cold",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Transitions": [{"Days": 90, "StorageClass": "GLACIER_IR"}],
    }
    with pytest.raises(StorageError, match="cannot make bucket ml-datasets in http"):
        s3.make_buckets({BUCKET: {"Rules": [rule]}})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"buckets": 1}', '{"buckets": null}'])
def test_what_is_no_document_of_rules_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.json").write_text(text)
    with pytest.raises(StorageError, match=r"rules .*rules\.json cannot be read"):
        read_rules(tmp_path / "rules.json")


def test_rules_for_another_bucket_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps({"buckets": {"elsewhere": {}}}))
    with pytest.raises(InvalidKey, match="bucket 'elsewhere' does not exist"):
        read_rules(tmp_path / "rules.json")
