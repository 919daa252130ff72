from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from system.model import artifact, engines
from system.model.artifact import ONNX_NAME
from system.model.export import Parity, export_onnx, parity
from system.model.network import ResNet8
from system.model.transform import Pixels


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
    export_onnx(network, folder / "again.onnx")
    assert artifact.sha256_file(folder / "again.onnx") == artifact.sha256_file(folder / ONNX_NAME)


def test_the_graph_says_what_the_network_says(network: ResNet8, folder: Path, pixels: Pixels) -> None:
    found = parity(network, folder / ONNX_NAME, pixels)
    assert found.holds
    assert found.largest_difference < 1e-5
    answers = engines.answers(engines.open_graph(folder / ONNX_NAME), pixels)
    assert answers.shape == (300, 10)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_parity_sees_a_graph_of_another_network(folder: Path, pixels: Pixels) -> None:
    other = ResNet8(np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32))
    found = parity(other, folder / ONNX_NAME, pixels[:64])
    assert not found.holds
    assert found.top1_agreement < 1


@pytest.mark.parametrize(("difference", "agreement"), [(1.01e-4, 1.0), (0.0, 0.999), (float("nan"), 1.0)])
def test_parity_holds_only_within_both_bounds(difference: float, agreement: float) -> None:
    assert Parity(largest_difference=1e-4, top1_agreement=1.0).holds
    assert not Parity(largest_difference=difference, top1_agreement=agreement).holds
