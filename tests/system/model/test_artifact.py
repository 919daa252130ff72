from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from system.errors import RegistryError
from system.model import artifact
from system.model.artifact import MANIFEST_NAME, ONNX_NAME, Manifest


def test_a_manifest_reads_back_as_it_was(folder: Path, manifest: Manifest) -> None:
    assert artifact.read_manifest(folder) == manifest


def test_the_file_is_what_readers_were_promised(folder: Path) -> None:
    document = json.loads((folder / MANIFEST_NAME).read_text())
    assert document["schema"] == "ml.model/1"
    assert document["input"] == {"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}
    assert document["sha256"] == hashlib.sha256((folder / ONNX_NAME).read_bytes()).hexdigest()


def test_verify_returns_the_manifest_of_a_whole_artifact(folder: Path) -> None:
    assert artifact.verify(folder).version == "3"


def test_verify_refuses_a_graph_that_was_altered_after_its_manifest(folder: Path) -> None:
    body = bytearray((folder / ONNX_NAME).read_bytes())
    body[len(body) // 2] ^= 1
    (folder / ONNX_NAME).write_bytes(body)
    with pytest.raises(RegistryError, match="it was altered"):
        artifact.verify(folder)


def test_verify_refuses_a_manifest_of_another_graph(folder: Path, manifest: Manifest) -> None:
    artifact.write_manifest(replace(manifest, sha256="0" * 64), folder)
    with pytest.raises(RegistryError, match=f"its manifest says {'0' * 64}"):
        artifact.verify(folder)


@pytest.mark.parametrize(("name", "said"), [(ONNX_NAME, "cannot be read"), (MANIFEST_NAME, "is missing")])
def test_verify_refuses_half_an_artifact(folder: Path, name: str, said: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RegistryError, match=said):
        artifact.verify(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: "{", "cannot be read as a manifest"),
        (lambda _: "[]", "has schema None"),
        (lambda document: json.dumps(document | {"schema": "ml.model/2"}), "has schema 'ml.model/2', not 'ml.model/1'"),
        (lambda document: json.dumps({k: v for k, v in document.items() if k != "sha256"}), "sha256"),
        (lambda document: json.dumps(document | {"metrics": {"accuracy": "good"}}), "metrics"),
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, damage: Callable[[dict[str, Any]], str], said: str) -> None:
    document = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(damage(document))
    with pytest.raises(RegistryError, match=said):
        artifact.read_manifest(folder)


def test_a_checksum_of_bytes_is_that_of_the_file(folder: Path) -> None:
    assert artifact.sha256_hex((folder / ONNX_NAME).read_bytes()) == artifact.sha256_file(folder / ONNX_NAME)
