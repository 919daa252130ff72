from __future__ import annotations

import time
import uuid
from dataclasses import replace

import psycopg
import pytest

from sre.probes import http, sql
from sre.targets.local.target import LocalTarget


def test_equal_bits_and_nothing_else_are_equal() -> None:
    assert sql.float32_bits([1.0, -0.0]) == "3f80000080000000"
    assert sql.float32_bits([0.0]) != sql.float32_bits([-0.0])
    assert sql.float32_bits([0.1]) != sql.float32_bits([0.1000001])
    assert sql.float32_bits([]) == ""


@pytest.mark.local
def test_a_recorded_prediction_is_the_answer_bit_for_bit(system: LocalTarget) -> None:
    endpoints, request_id, began = system.endpoints, f"test-{uuid.uuid4()}", time.time()
    _, body = http.predict(endpoints, next(endpoints.bodies.rglob("*.png")), request_id)
    deadline = time.monotonic() + 20
    while (row := sql.prediction(endpoints, request_id)) is None:
        assert time.monotonic() < deadline, "the prediction was not recorded"
        time.sleep(0.05)
    assert row.bits == sql.float32_bits(body["probabilities"])
    assert len(row.input_sha256) == 64
    assert row.variant
    assert sql.prediction(endpoints, "nobody asked this") is None
    assert sql.predictions_since(endpoints, began - 1) >= 1
    assert sql.predictions_since(endpoints, time.time() + 60) == 0


@pytest.mark.local
def test_a_log_that_cannot_be_asked_raises(system: LocalTarget) -> None:
    endpoints = replace(system.endpoints, database="postgresql://backup@127.0.0.1:1/predictions")
    with pytest.raises(psycopg.OperationalError):
        sql.prediction(endpoints, "x")
