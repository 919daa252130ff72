from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.errors import RegistryError
from system.model import artifact, engines
from system.model.artifact import INPUT_NAME, ONNX_NAME, EngineName, Manifest, Precision, Probabilities, Variant
from system.model.engines import Engine, answers, open_engine, open_graph, runnable
from system.model.transform import Pixels


@pytest.fixture(params=[("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")], ids="-".join)
def engine(request: pytest.FixtureRequest, sealed: Path) -> Engine:
    library, precision = request.param
    if not engines.supported(library, precision):
        pytest.skip(f"this machine has no {library} that computes in {precision}")
    return open_graph(sealed / ONNX_NAME, library, precision)


@pytest.fixture
def expected(sealed: Path, pixels: Pixels) -> Probabilities:
    """What the library itself says, one image at a time."""
    session = engines._onnxruntime().InferenceSession(str(sealed / ONNX_NAME), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {INPUT_NAME: pixels[place : place + 1]})[0] for place in range(20)])


def test_one_and_many_give_the_same_answers(engine: Engine, pixels: Pixels, expected: Probabilities) -> None:
    many = engine(pixels[:20])
    one = np.concatenate([engine(pixels[place : place + 1]) for place in range(20)])
    assert many.dtype == one.dtype == np.float32
    np.testing.assert_allclose(one, expected, atol=0.05)  # bf16 has eight bits
    np.testing.assert_allclose(many, one, atol=1e-2)


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_float32_is_exact_whatever_the_library(
    sealed: Path, pixels: Pixels, expected: Probabilities, library: EngineName
) -> None:
    np.testing.assert_allclose(open_graph(sealed / ONNX_NAME, library)(pixels[:20]), expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_a_later_call_does_not_write_into_an_earlier_answer(engine: Engine, pixels: Pixels, count: int) -> None:
    first = engine(pixels[:count])
    kept = first.copy()
    assert not np.array_equal(engine(pixels[50 : 50 + count]), kept)
    np.testing.assert_array_equal(first, kept)


def test_batches_of_every_size_may_follow_each_other(engine: Engine, pixels: Pixels) -> None:
    whole = answers(engine, pixels[:7])
    for count in (2, 1, 7, 3):
        np.testing.assert_allclose(engine(pixels[:count]), whole[:count], atol=1e-2)


def test_a_slice_that_is_not_contiguous_is_read_rightly(engine: Engine, pixels: Pixels) -> None:
    flipped = pixels[:4, :, ::-1]
    np.testing.assert_allclose(engine(flipped), engine(np.ascontiguousarray(flipped)), atol=1e-6)
    np.testing.assert_allclose(engine(flipped[:1]), engine(np.ascontiguousarray(flipped[:1])), atol=1e-6)


def test_any_number_of_images_is_answered_in_order(sealed: Path, pixels: Pixels) -> None:
    engine = open_graph(sealed / ONNX_NAME)
    found = answers(engine, pixels)
    assert found.shape == (300, 10)
    np.testing.assert_allclose(found[290:], engine(pixels[290:]), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_golden_answers_are_those_of_the_graph(sealed: Path, pixels: Pixels) -> None:
    found = engines.golden(sealed, pixels[:32])
    sealed_answers = artifact.read_golden(sealed)
    np.testing.assert_array_equal(found.images, sealed_answers.images)
    np.testing.assert_array_equal(found.probabilities, sealed_answers.probabilities)


def test_an_engine_of_a_sealed_model_answers(sealed: Path, manifest: Manifest, pixels: Pixels) -> None:
    assert open_engine(sealed, manifest, manifest.variants[0])(pixels[:2]).shape == (2, 10)


def test_a_graph_with_other_classes_is_refused(sealed: Path, manifest: Manifest) -> None:
    with pytest.raises(RegistryError, match=r"answers float32 \(1, 10\) with sum 1 as fp32, not float32 \(1, 9\)"):
        open_engine(sealed, replace(manifest, labels=manifest.labels[1:]), manifest.variants[0])


def _kind(variant: Variant, engine: EngineName, precision: Precision) -> Variant:
    return replace(variant, name=f"{engine}-{precision}", engine=engine, precision=precision)


def test_a_graph_of_another_size_is_refused(sealed: Path, manifest: Manifest) -> None:
    larger = replace(manifest, input=artifact.Input(shape=("batch", 48, 48, 3)))
    with pytest.raises(RegistryError, match=r"(?s)cannot be run by onnxruntime.*register the model again"):
        open_engine(sealed, larger, manifest.variants[0])


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_bytes_that_are_no_graph_are_refused(folder: Path, manifest: Manifest, library: EngineName) -> None:
    (folder / ONNX_NAME).write_bytes(b"no graph")
    with pytest.raises(RegistryError, match=f"cannot be run by {library}"):
        open_engine(folder, manifest, _kind(manifest.variants[0], library, "fp32"))


def test_what_the_machine_lacks_is_not_runnable(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = manifest.variants[0]
    assert runnable(first)
    assert runnable(_kind(first, "openvino", "int8"))
    bf16 = "BF16" in engines._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert runnable(_kind(first, "openvino", "bf16")) == bf16
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert runnable(first)
    assert not runnable(_kind(first, "openvino", "int8"))


def test_a_float32_graph_costs_no_import_and_no_library_sends_or_prints_anything(sealed: Path, tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from system.model.engines import open_graph
        path, image = Path(sys.argv[1]), np.zeros((1, 32, 32, 3), np.uint8)
        open_graph(path)(image)
        heavy = {"openvino", "torch", "mlflow", "onnx"} & set(sys.modules)
        assert not heavy, heavy
        open_graph(path, "openvino")(image)
        sent = [name for name in sys.modules if name.startswith("openvino_telemetry.")]
        assert not sent, sent
        assert sys.modules["openvino"].tools.ovc.telemetry.__class__.__module__.endswith("telemetry_stub")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(sealed / ONNX_NAME)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
