from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from system.errors import Unauthorized
from system.serving.auth import Keys


def _file(folder: Path, document: Any) -> Path:
    path = folder / "keys.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _entry(key: bytes, name: str = "someone") -> dict[str, str]:
    return {"name": name, "sha256": hashlib.sha256(key).hexdigest()}


def test_every_listed_key_passes_and_no_other(tmp_path: Path) -> None:
    keys = Keys(_file(tmp_path, {"keys": [_entry(b"first"), _entry("zw\u00f6lf".encode("latin-1")), _entry(b"third")]}))
    for known in ("first", "zw\u00f6lf", "third"):
        keys.require(known)
    for unknown in ("", "second", "first ", "First", _entry(b"first")["sha256"]):
        with pytest.raises(Unauthorized, match="not known"):
            keys.require(unknown)
    with pytest.raises(Unauthorized, match="X-API-Key"):
        keys.require(None)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"keys": []}, "keys: List should have at least 1 item"),
        ({"keys": [{"name": "a", "sha256": "a-real-key-by-mistake"}]}, "keys.0.sha256: String should match"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "scope": "all"}]}, "keys.0.scope: Extra inputs are not permitted"),
        ({}, "keys: Field required"),
        ("not json", "file: Invalid JSON"),
    ],
)
def test_a_file_that_is_not_right_is_refused_without_quoting_it(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"keys\.json is not") as caught:
        Keys(_file(tmp_path, document))
    assert said in str(caught.value)
    assert "a-real-key" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.json cannot be read: No such file"):
        Keys(tmp_path / "absent.json")
