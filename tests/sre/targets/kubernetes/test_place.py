"""What is kept below the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import TargetUnavailable
from sre.targets.kubernetes import place
from sre.targets.kubernetes.place import Place


def test_what_is_written_is_read_back_and_closed_to_others(tmp_path: Path) -> None:
    assert place.read(tmp_path) is None
    written = Place(tmp_path, "/a/config:/b/config", "testbed", "dev")
    written.write()
    assert place.read(tmp_path) == written
    assert written.folder.stat().st_mode & 0o777 == 0o700
    assert {written.ca_file.parent, written.api_key_file.parent, written.bodies.parent, written.slots.parent} == {written.folder}


@pytest.mark.parametrize("text", ["", "[]", '{"context": "testbed"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    Place(tmp_path, "config", "testbed", "dev").write()
    (tmp_path / "kubernetes" / "place.json").write_text(text)
    with pytest.raises(TargetUnavailable, match=r"place\.json is damaged .*; delete it"):
        place.read(tmp_path)
