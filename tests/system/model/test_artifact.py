from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from system.errors import RegistryError
from system.model import artifact
from system.model.artifact import MANIFEST_NAME, ONNX_NAME, Manifest, Parity
from system.model.network import ResNet8
from system.model.transform import Pixels


@pytest.fixture(scope="module")
def network() -> ResNet8:
    torch.manual_seed(7)
    made = ResNet8(np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32))
    made.train()
    made(torch.from_numpy(pixels(64)))
    return made


@pytest.fixture
def folder(network: ResNet8, tmp_path: Path) -> Path:
    """A whole artifact."""
    artifact.export_onnx(network, tmp_path / ONNX_NAME)
    artifact.write_manifest(make_manifest(artifact.sha256_file(tmp_path / ONNX_NAME)), tmp_path)
    return tmp_path


def make_manifest(sha256: str) -> Manifest:
    return Manifest(
        model="digits",
        version="3",
        sha256=sha256,
        labels=tuple("0123456789"),
        metrics={"accuracy": 0.99},
        dataset_version="2026-01-01-120000",
        git_sha="unknown",
    )


def pixels(count: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_the_graph_has_the_agreed_inputs_and_outputs(folder: Path) -> None:
    graph = onnx.load(folder / ONNX_NAME).graph
    sides = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    types = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "probabilities"]
    assert sides == [["batch", 32, 32, 3], ["batch", 10]]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]


def test_the_graph_transposes_bytes_and_has_no_batch_norm(folder: Path) -> None:
    kinds = [node.op_type for node in onnx.load(folder / ONNX_NAME).graph.node]
    assert kinds[:4] == ["Transpose", "Cast", "Sub", "Conv"]
    assert kinds[-1] == "Softmax"
    assert not {"BatchNormalization", "Div", "Mul"} & set(kinds)


def test_the_same_network_gives_the_same_bytes(network: ResNet8, folder: Path) -> None:
    artifact.export_onnx(network, folder / "again.onnx")
    assert artifact.sha256_file(folder / "again.onnx") == artifact.sha256_file(folder / ONNX_NAME)


def test_the_graph_says_what_the_network_says(network: ResNet8, folder: Path) -> None:
    found = artifact.parity(network, folder / ONNX_NAME, pixels(300))
    assert found.holds
    assert found.largest_difference < 1e-5
    answers = artifact.probabilities(folder / ONNX_NAME, pixels(300))
    assert answers.shape == (300, 10)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_parity_sees_a_graph_of_another_network(network: ResNet8, folder: Path) -> None:
    other = ResNet8(np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32))
    found = artifact.parity(other, folder / ONNX_NAME, pixels(64))
    assert not found.holds
    assert found.top1_agreement < 1


@pytest.mark.parametrize(("difference", "agreement"), [(1.01e-4, 1.0), (0.0, 0.999), (float("nan"), 1.0)])
def test_parity_holds_only_within_both_bounds(difference: float, agreement: float) -> None:
    assert Parity(largest_difference=1e-4, top1_agreement=1.0).holds
    assert not Parity(largest_difference=difference, top1_agreement=agreement).holds


def test_a_manifest_reads_back_as_it_was(folder: Path) -> None:
    assert artifact.read_manifest(folder) == make_manifest(artifact.sha256_file(folder / ONNX_NAME))


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


def test_verify_refuses_a_manifest_of_another_graph(folder: Path) -> None:
    artifact.write_manifest(replace(make_manifest("0" * 64)), folder)
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
