from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from system.errors import InvalidImage, RegistryError
from system.model.artifact import verify
from system.serving.predictor import Predictor


async def test_an_image_becomes_probabilities(place: Any, make_picture: Any) -> None:
    folder = place.publish("11")
    predictor = Predictor(folder, verify(folder))
    pixels = predictor.decode(make_picture(), "image/jpeg", max_pixels=10_000)
    assert (pixels.shape, pixels.dtype.name) == ((1, predictor.side, predictor.side, 3), "uint8")
    found = await predictor.infer(pixels)
    assert found.shape == (1, len(predictor.labels))
    assert found.sum() == pytest.approx(1)
    assert np.array_equal(found, predictor.infer_now(pixels))


def test_another_thread_gets_an_engine_of_its_own(place: Any) -> None:
    folder = place.publish("12")
    predictor = Predictor(folder, verify(folder))
    predictor.infer_now(np.zeros((2, 32, 32, 3), np.uint8))
    assert predictor._another is not predictor._engine


def test_more_pixels_than_the_limit_are_refused(place: Any, make_picture: Any) -> None:
    folder = place.publish("13")
    predictor = Predictor(folder, verify(folder))
    with pytest.raises(InvalidImage):
        predictor.decode(make_picture(), "image/jpeg", max_pixels=100)


async def test_a_slow_model_leaves_the_event_loop_free(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("system.serving.predictor._MOST_INLINE_US", 0.0)
    folder = place.publish("14")
    predictor = Predictor(folder, verify(folder))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert predictor._batcher is not None
    assert np.array_equal(await predictor.infer(images), predictor.infer_now(images))


def _altered(folder: Path, change: Any) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")


def test_a_graph_that_is_not_the_promised_one_is_refused(place: Any) -> None:
    folder = place.publish()
    manifest = verify(folder)
    _altered(folder, lambda graph: graph.node.pop())
    with pytest.raises(RegistryError, match=r"cannot be served: .*cannot be run"):
        Predictor(folder, manifest)


def test_probabilities_that_do_not_sum_to_one_are_refused(place: Any) -> None:
    folder = place.publish()
    manifest = verify(folder)

    def sigmoid(graph: Any) -> None:
        graph.node[-1].op_type = "Sigmoid"
        del graph.node[-1].attribute[:]

    _altered(folder, sigmoid)
    with pytest.raises(RegistryError, match=r"with sum 5 as fp32, not float32 \(1, 10\) with sum 1"):
        Predictor(folder, manifest)
