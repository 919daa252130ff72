from __future__ import annotations

import hashlib
from pathlib import Path

from sre.evidence.files import checksums


def test_every_file_is_listed_sorted_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/z.bin", "b.txt", "a b.txt", "checksums.sha256"):
        (tmp_path / name).write_bytes(name.encode())
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a b.txt", "b.txt", "b/z.bin")}
    assert list(checksums(tmp_path).items()) == list(expected.items())
    assert list(checksums(tmp_path, without=frozenset())) == ["a b.txt", "b.txt", "b/z.bin", "checksums.sha256"]
