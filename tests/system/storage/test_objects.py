from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from system.config import BUCKETS
from system.errors import StorageError
from system.storage.objects import FolderStore, InvalidKey, ObjectMissing, ObjectStore, open_store

BUCKET = "ml-datasets"


def test_what_is_put_is_got_back(store: ObjectStore) -> None:
    store.put(BUCKET, "a/b.bin", b"\x00\xff" * 1000)
    assert store.get(BUCKET, "a/b.bin") == b"\x00\xff" * 1000


def test_put_replaces(store: ObjectStore) -> None:
    store.put(BUCKET, "a", b"a longer first content")
    store.put(BUCKET, "a", b"second")
    assert store.get(BUCKET, "a") == b"second"
    assert store.list(BUCKET) == ["a"]


@pytest.mark.parametrize("bucket", BUCKETS)
def test_buckets_are_made_on_demand(folder: FolderStore, bucket: str) -> None:
    assert folder.list(bucket) == []
    folder.put(bucket, "key", b"")
    assert folder.get(bucket, "key") == b""
    assert (folder.root / bucket / "key").is_file()


def test_buckets_do_not_see_each_other(store: ObjectStore) -> None:
    store.put("ml-datasets", "key", b"1")
    assert not store.exists("ml-backups", "key")


def test_list_is_sorted_and_filtered_by_prefix(store: ObjectStore) -> None:
    for key in ("v2/b", "v1/z", "v1/a/c", "v10/a"):
        store.put(BUCKET, key, b"")
    assert store.list(BUCKET) == ["v1/a/c", "v1/z", "v10/a", "v2/b"]
    assert store.list(BUCKET, "v1/") == ["v1/a/c", "v1/z"]
    assert store.list(BUCKET, "v1") == ["v1/a/c", "v1/z", "v10/a"]
    assert store.list(BUCKET, "nothing") == []


def test_a_missing_object_is_named(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing, match=r"ml-datasets/no/such does not exist"):
        store.get(BUCKET, "no/such")


def test_a_copy_is_the_object_and_a_missing_one_is_named(store: ObjectStore, tmp_path: Path) -> None:
    store.put(BUCKET, "a/b.bin", b"\x00\xff" * 1000)
    store.copy(BUCKET, "a/b.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"\x00\xff" * 1000
    with pytest.raises(ObjectMissing, match=r"ml-datasets/no/such does not exist"):
        store.copy(BUCKET, "no/such", tmp_path / "copy")
    with pytest.raises(StorageError, match=r"cannot copy object ml-datasets/a/b\.bin: No such file"):
        store.copy(BUCKET, "a/b.bin", tmp_path / "no/folder")
    with pytest.raises(InvalidKey):
        store.copy(BUCKET, "../a", tmp_path / "copy")


def test_delete_removes_and_may_be_repeated(store: ObjectStore) -> None:
    store.put(BUCKET, "key", b"1")
    store.delete(BUCKET, "key")
    store.delete(BUCKET, "key")
    assert not store.exists(BUCKET, "key")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "..",
        "../ml-backups/x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        ".upload-x",
        "a\\b",
        "a\0b",
        "a b",
        "a\n",
        "é",
    ],
)
def test_no_key_leaves_its_bucket(store: ObjectStore, key: str) -> None:
    for refused in (
        lambda: store.put(BUCKET, key, b"x"),
        lambda: store.get(BUCKET, key),
        lambda: store.exists(BUCKET, key),
        lambda: store.delete(BUCKET, key),
    ):
        with pytest.raises(InvalidKey, match="is not a path of plain names"):
            refused()
    assert store.list("ml-backups") == store.list(BUCKET) == []


def test_an_unknown_bucket_is_refused(store: ObjectStore) -> None:
    with pytest.raises(InvalidKey, match="bucket 'elsewhere' does not exist; there are ml-datasets"):
        store.list("elsewhere")


def test_a_write_that_fails_leaves_the_old_object_and_no_debris(folder: FolderStore) -> None:
    folder.put(BUCKET, "folder/key", b"old")
    with pytest.raises(StorageError, match="cannot write object ml-datasets/folder"):
        folder.put(BUCKET, "folder", b"a file cannot replace a folder")
    assert folder.get(BUCKET, "folder/key") == b"old"
    assert [path.name for path in (folder.root / BUCKET).iterdir()] == ["folder"]


def test_a_key_below_an_object_is_refused(folder: FolderStore) -> None:
    folder.put(BUCKET, "key", b"old")
    with pytest.raises(StorageError, match="cannot write object ml-datasets/key/below"):
        folder.put(BUCKET, "key/below", b"x")


def test_a_folder_is_no_object(folder: FolderStore) -> None:
    folder.put(BUCKET, "folder/key", b"x")
    assert not folder.exists(BUCKET, "folder")
    with pytest.raises(StorageError, match="cannot read object ml-datasets/folder"):
        folder.get(BUCKET, "folder")
    with pytest.raises(StorageError, match="cannot delete object ml-datasets/folder"):
        folder.delete(BUCKET, "folder")


def test_an_upload_that_was_cut_short_is_not_listed(folder: FolderStore) -> None:
    folder.put(BUCKET, "v1/key", b"x")
    (folder.root / BUCKET / "v1" / ".upload-cut").write_bytes(b"half")
    assert folder.list(BUCKET) == ["v1/key"]


def test_others_may_read_what_was_written(folder: FolderStore) -> None:
    folder.put(BUCKET, "key", b"x")
    assert os.stat(folder.root / BUCKET / "key").st_mode & 0o777 == 0o644  # noqa: PTH116 - the mode is the subject


def test_a_reader_never_sees_half_an_object(store: ObjectStore) -> None:
    contents = [bytes([value]) * 200_000 for value in range(4)]
    store.put(BUCKET, "key", contents[0])
    done = threading.Event()

    def write() -> None:
        for content in contents * 5:
            store.put(BUCKET, "key", content)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(store.get(BUCKET, "key"))
    writer.join()
    assert seen <= set(contents)


def test_what_is_replaced_or_deleted_is_kept_as_a_version(folder: FolderStore) -> None:
    for data in (b"1", b"2"):
        folder.put(BUCKET, "a/key", data)
    folder.delete(BUCKET, "a/key")
    folder.delete(BUCKET, "a/key")
    versions = sorted((folder.root / BUCKET / ".versions" / "a" / "key").iterdir())
    assert [path.read_bytes() for path in versions] == [b"1", b"2"]
    assert folder.list(BUCKET) == []
    assert not folder.exists(BUCKET, "a/key")


def test_a_cold_object_reads_as_any_other(folder: FolderStore, tmp_path: Path) -> None:
    cold = folder.root / BUCKET / ".cold" / "a" / "key.gz"
    cold.parent.mkdir(parents=True)
    cold.write_bytes(gzip.compress(b"cold"))
    assert folder.list(BUCKET) == ["a/key"]
    assert folder.exists(BUCKET, "a/key")
    assert folder.get(BUCKET, "a/key") == b"cold"
    folder.copy(BUCKET, "a/key", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"cold"
    folder.delete(BUCKET, "a/key")
    assert not folder.exists(BUCKET, "a/key")


def test_a_cold_object_that_is_damaged_is_named(folder: FolderStore) -> None:
    cold = folder.root / BUCKET / ".cold" / "key.gz"
    cold.parent.mkdir(parents=True)
    cold.write_bytes(gzip.compress(b"cold")[:-4])
    with pytest.raises(StorageError, match=r"cannot read object ml-datasets/key"):
        folder.get(BUCKET, "key")


def test_the_folder_of_a_url_may_hold_any_name() -> None:
    found = open_store("file:///srv/my%20objects")
    assert isinstance(found, FolderStore)
    assert found.root == Path("/srv/my objects")


def test_a_folder_loads_no_s3_client() -> None:
    probe = "import sys; from system.storage.objects import open_store; open_store('file:///x'); print('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "False\n"
