from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from system.contracts import Prediction, Problem, V2InferRequest

PROBABILITIES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)


@given(PROBABILITIES)
def test_float32_values_survive_json_exactly(values: list[float]) -> None:
    sent = orjson.dumps(
        {
            "request_id": "r",
            "model_version": "1",
            "label": "0",
            "confidence": max(values),
            "probabilities": np.array(values, np.float32).tolist(),
        }
    )
    read = Prediction.model_validate_json(sent)
    assert np.array_equal(np.array(read.probabilities, np.float32), np.array(values, np.float32))
    assert Prediction.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": []},
        {"confidence": 1.1},
        {"confidence": float("nan")},
        {"label": 7},
        {"model_version": 3},
        {"extra": 1},
    ],
)
def test_a_prediction_of_another_shape_is_refused(change: dict[str, object]) -> None:
    good = {"request_id": "r", "model_version": "1", "label": "0", "confidence": 0.5, "probabilities": [0.1] * 10}
    Prediction.model_validate(good)
    with pytest.raises(ValidationError):
        Prediction.model_validate(good | change)


def test_a_problem_has_an_error_status() -> None:
    good = {"type": "urn:x", "title": "t", "status": 400, "detail": "d", "error": "d", "code": "c", "request_id": "r"}
    Problem.model_validate(good)
    with pytest.raises(ValidationError):
        Problem.model_validate(good | {"status": 200})


@pytest.mark.parametrize("parameters", [{"shared_memory_region": "x"}, {"binary_data_size": "many"}])
def test_only_parameters_that_are_served_are_in_the_contract(parameters: dict[str, object]) -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    V2InferRequest.model_validate({"inputs": [tensor | {"parameters": {"binary_data_size": 3}}]})
    with pytest.raises(ValidationError):
        V2InferRequest.model_validate({"inputs": [tensor | {"parameters": parameters}]})
