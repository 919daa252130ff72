from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sre.evidence.files import checksums, strangers


def test_every_file_is_listed_sorted_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/z.bin", "b.txt", "a b.txt", "attestation.json"):
        (tmp_path / name).write_bytes(name.encode())
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a b.txt", "b.txt", "b/z.bin")}
    assert list(checksums(tmp_path).items()) == list(expected.items())
    assert list(checksums(tmp_path, without=frozenset())) == ["a b.txt", "attestation.json", "b.txt", "b/z.bin"]


def test_links_and_pipes_are_strangers(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "own").write_bytes(b"")
    assert strangers(tmp_path) == []
    (tmp_path / "folder" / "link").symlink_to("own")
    (tmp_path / "away").symlink_to(tmp_path.parent)
    (tmp_path / "nowhere").symlink_to("missing")
    os.mkfifo(tmp_path / "pipe")
    assert strangers(tmp_path) == ["away", "folder/link", "nowhere", "pipe"]
