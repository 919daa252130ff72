from __future__ import annotations

import copy
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from system.model import variants
from system.model.artifact import INT8_NAME, KINDS, ONNX_NAME, OPENVINO_INT8_NAME, Probabilities, Variant, describe, sha256_file
from system.model.engines import answers, golden, open_graph
from system.model.export import export_onnx
from system.model.network import ResNet8
from system.model.transform import Pixels
from system.model.variants import Labels, Yardstick, attempt, choose_golden, make_variants, quantise

Damage = Callable[[Path], None]


@pytest.fixture(scope="session")
def labels() -> Labels:
    """Int (200,), ten classes in turn."""
    return np.arange(200) % 10


@pytest.fixture(scope="session")
def pictures(labels: Labels) -> Pixels:
    """uint8 (200, 32, 32, 3): noise around one picture for each class."""
    rng = np.random.default_rng(11)
    originals = rng.integers(30, 226, (10, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (originals[labels] + rng.integers(-30, 31, (200, 32, 32, 3))).astype(np.uint8)


@pytest.fixture(scope="session")
def sure(network: ResNet8, pictures: Pixels) -> ResNet8:
    """A network that tells the classes apart: its head gives each image the class whose mean features are nearest."""
    made = copy.deepcopy(network).eval()
    seen: list[torch.Tensor] = []
    hook = made.head.register_forward_pre_hook(lambda _, features: seen.append(features[0]))
    with torch.inference_mode():
        made(torch.from_numpy(pictures))
    hook.remove()
    with torch.no_grad():
        means = seen[0].reshape(20, 10, 64).mean(dim=0).clone()
        means -= means.mean(dim=0)
        middle = seen[0].mean(dim=0).clone()
        scale = 20 / means.square().sum(dim=1).mean()
        made.head.weight.copy_(scale * means)
        made.head.bias.copy_(-scale * (means @ middle + means.square().sum(dim=1) / 2))
    return made


@pytest.fixture(scope="session")
def made(sure: ResNet8, pictures: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the float32 graph and both int8 ones; nobody writes to it."""
    folder = tmp_path_factory.mktemp("made")
    export_onnx(sure, folder / ONNX_NAME)
    quantise(folder / ONNX_NAME, folder / INT8_NAME, pictures[:64], first_in_float=True)
    quantise(folder / ONNX_NAME, folder / OPENVINO_INT8_NAME, pictures[:64], first_in_float=False)
    return folder


@pytest.fixture(scope="session")
def yardstick(made: Path, pictures: Pixels, labels: Labels) -> Yardstick:
    expected = answers(open_graph(made / ONNX_NAME), pictures)
    return Yardstick(pictures, labels, expected, golden(made, pictures[choose_golden(labels)]))


def inverted(path: Path) -> None:
    """Every weight of the last layer with the other sign: a graph that loads and runs and is wrong."""
    model = onnx.load(path)
    (head,) = [weights for weights in model.graph.initializer if tuple(weights.dims) == (10, 64)]
    head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), head.name))
    onnx.save(model, path)


def scaled(path: Path) -> None:
    """One scale of activations a thousand times too large, as a wrong calibration leaves it."""
    model = onnx.load(path)
    scale = next(weights for weights in model.graph.initializer if weights.name.endswith("Relu_1_output_0_scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1000), scale.name))
    onnx.save(model, path)


def infinite(path: Path) -> None:
    """A bias that makes every answer NaN."""
    model = onnx.load(path)
    (bias,) = [weights for weights in model.graph.initializer if tuple(weights.dims) == (10,)]
    bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(model, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("name", ["fp32", "int8", "openvino-bf16", "openvino-int8"])
def test_every_variant_that_runs_here_passes(made: Path, yardstick: Yardstick, name: str) -> None:
    trial = attempt(made, name, yardstick)
    if trial.variant is None:
        pytest.skip(str(trial.refused))
    assert trial.refused is None
    assert trial.variant == describe(made, name, accuracy=trial.variant.accuracy, agreement=trial.variant.agreement)
    assert trial.variant.accuracy >= 0.995
    assert trial.variant.agreement >= 0.99
    assert 1 < trial.microseconds < 1e6


@pytest.mark.parametrize("damage", [inverted, scaled, infinite, cut, Path.unlink])
@pytest.mark.parametrize("name", ["int8", "openvino-int8"])
def test_a_damaged_int8_graph_is_refused(made: Path, yardstick: Yardstick, tmp_path: Path, name: str, damage: Damage) -> None:
    file = KINDS[name][0]
    shutil.copy(made / file, tmp_path)
    assert attempt(tmp_path, name, yardstick).refused is None
    damage(tmp_path / file)
    refused = attempt(tmp_path, name, yardstick).refused
    assert refused is not None
    assert refused.startswith(f"{name} cannot be run" if damage in {cut, Path.unlink} else f"{name} has accuracy 0.")


def test_an_int8_graph_with_other_classes_is_refused(made: Path, yardstick: Yardstick) -> None:
    fewer = replace(yardstick, expected=yardstick.expected[:, :9])
    assert attempt(made, "int8", fewer).refused == "int8 answers (200, 10) to the test images, not (200, 9)"


def test_what_the_machine_lacks_is_left_out(made: Path, yardstick: Yardstick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    trial = attempt(made, "openvino-int8", yardstick)
    assert trial.refused == "openvino-int8 cannot be tried: this machine has no openvino that computes in int8"
    assert trial.variant is None
    assert np.isnan(trial.microseconds)


def test_all_variants_are_made_and_float32_comes_first(
    made: Path, yardstick: Yardstick, pictures: Pixels, tmp_path: Path
) -> None:
    shutil.copy(made / ONNX_NAME, tmp_path)
    trials = make_variants(tmp_path, pictures[:64], pictures, yardstick.labels, yardstick.golden)
    assert [trial.name for trial in trials] == ["fp32", "int8", "openvino-bf16", "openvino-int8"]
    assert trials[0].refused is None
    assert trials[0].variant is not None
    assert (trials[0].variant.accuracy, trials[0].variant.agreement) == (1, 1)
    for name in (INT8_NAME, OPENVINO_INT8_NAME):  # the same network and images give the same bytes
        assert sha256_file(tmp_path / name) == sha256_file(made / name)


def test_the_int8_graphs_compute_in_int8(made: Path) -> None:
    for name, floats in ((INT8_NAME, 1), (OPENVINO_INT8_NAME, 0)):
        graph = onnx.load(made / name).graph
        sources = {output: node for node in graph.node for output in node.output}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        quantised = [node for node in convolutions if getattr(sources.get(node.input[1]), "op_type", "") == "DequantizeLinear"]
        assert len(convolutions) - len(quantised) == floats
        weights = [w for w in graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4]
        assert len(weights) == len(quantised) == 9 - floats
        assert max(np.abs(numpy_helper.to_array(w).astype(int)).max() for w in weights) <= 64  # seven bits


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (0, None),
        (1, None),
        (2, "int8 has accuracy 0.9900 on 200 images, more than 0.005 below the 1.0000 of float32"),
    ],
)
def test_accuracy_may_fall_by_half_a_point(yardstick: Yardstick, wrong: int, said: str | None) -> None:
    found = yardstick.expected.copy()
    found[:wrong] = np.roll(found[:wrong], 1, axis=1)
    variant = measured(yardstick, found)
    assert yardstick.complaint(variant, yardstick.golden.probabilities) == said


def test_agreement_counts_where_accuracy_is_no_worse(yardstick: Yardstick) -> None:
    """Float32 is wrong about three images, and the variant is wrong about three others: as accurate, and another model."""
    expected, found = yardstick.expected.copy(), yardstick.expected.copy()
    expected[:3] = np.roll(expected[:3], 1, axis=1)
    found[3:6] = np.roll(found[3:6], 1, axis=1)
    other = replace(yardstick, expected=expected)
    said = other.complaint(measured(other, found), other.golden.probabilities)
    assert said == "int8 agrees with float32 on 0.9700 of 200 images, less than 0.99"


def test_a_variant_that_a_server_would_refuse_is_refused_at_once(yardstick: Yardstick) -> None:
    """Right on every test image, and unlike float32 on the golden ones."""
    variant = measured(yardstick, yardstick.expected)
    said = yardstick.complaint(variant, np.full_like(yardstick.golden.probabilities, 0.1))
    assert said is not None
    assert "golden images" in said


def test_numbers_that_are_missing_are_no_pass(yardstick: Yardstick) -> None:
    good = measured(yardstick, yardstick.expected)
    golden_answers = yardstick.golden.probabilities
    assert yardstick.complaint(good, golden_answers) is None
    assert yardstick.complaint(replace(good, accuracy=float("nan")), golden_answers) is not None
    assert yardstick.complaint(replace(good, agreement=float("nan")), golden_answers) is not None


def measured(yardstick: Yardstick, found: Probabilities) -> Variant:
    return Variant(
        name="int8",
        file=INT8_NAME,
        sha256="",
        engine="onnxruntime",
        precision="int8",
        accuracy=yardstick.accuracy(found),
        agreement=yardstick.agreement(found),
    )


def test_golden_images_are_of_all_classes_in_turn() -> None:
    labels = np.array([5, 5, 5, 5, 0, 1, 1, 2])
    assert choose_golden(labels).tolist() == [4, 5, 7, 0, 6, 1, 2, 3]
    many = np.random.default_rng(2).integers(0, 10, 300)
    counts = np.bincount(many[choose_golden(many)], minlength=10)
    assert counts.sum() == 32
    assert set(counts.tolist()) == {3, 4}


def test_microseconds_are_for_one_image(pictures: Pixels) -> None:
    def engine(images: Pixels) -> Probabilities:
        total = 0
        for number in range(20_000):
            total += number
        return np.full((len(images), 1), total, np.float32)

    one, ten = variants.microseconds(engine, pictures[:1]), variants.microseconds(engine, pictures[:10])
    assert one > 3 * ten
