from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from system import telemetry
from system.errors import InvalidImage, RegistryError
from system.model.artifact import verify
from system.serving.predictor import Predictor


def _sample(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_answer_names_the_best_class_and_is_measured(place: Any, make_picture: Any) -> None:
    folder = place.publish("11")
    predictor = Predictor(folder, verify(folder))
    stages = {stage: _sample("request_stage_duration_seconds_count", stage=stage) for stage in telemetry.STAGES}
    predicted, timed = _sample("model_predictions_total", model_version="11"), _sample("model_prediction_duration_seconds_count")
    answer = predictor.predict(make_picture(), "image/jpeg", max_pixels=10_000)
    assert answer.confidence == max(answer.probabilities) == answer.probabilities[int(answer.label)]
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.duration_ms > 0
    assert all(_sample("request_stage_duration_seconds_count", stage=stage) == before + 1 for stage, before in stages.items())
    assert _sample("model_predictions_total", model_version="11") == predicted + 1
    assert _sample("model_prediction_duration_seconds_count") == timed + 1


def test_a_refused_image_is_no_prediction(place: Any, make_picture: Any) -> None:
    folder = place.publish("12")
    predictor = Predictor(folder, verify(folder))
    with pytest.raises(InvalidImage):
        predictor.predict(make_picture(), "image/jpeg", max_pixels=100)
    assert _sample("model_predictions_total", model_version="12") == 0


def _altered(folder: Path, change: Any) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")


def test_a_graph_that_is_not_the_promised_one_is_refused(place: Any) -> None:
    folder = place.publish()
    manifest = verify(folder)
    _altered(folder, lambda graph: graph.node.pop())
    with pytest.raises(RegistryError, match="cannot be run"):
        Predictor(folder, manifest)


def test_probabilities_that_do_not_sum_to_one_are_refused(place: Any) -> None:
    folder = place.publish()
    manifest = verify(folder)

    def sigmoid(graph: Any) -> None:
        graph.node[-1].op_type = "Sigmoid"
        del graph.node[-1].attribute[:]

    _altered(folder, sigmoid)
    with pytest.raises(RegistryError, match=r"with sum 5, not float32 \(1, 10\) with sum 1"):
        Predictor(folder, manifest)
