"""One replica from start to shutdown, in this process, with a real database."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import psycopg
import pytest

from system.storage.engine import migrate

JPEG = {"Content-Type": "image/jpeg"}


async def until_ready(client: httpx.AsyncClient, within_s: float = 10) -> httpx.Response:
    deadline = time.monotonic() + within_s
    while (response := await client.get("/health/ready")).status_code != 200:
        if time.monotonic() > deadline:
            pytest.fail(f"not ready after {within_s} s (last: {response.status_code} {response.text})")
        await asyncio.sleep(0.02)
    return response


async def test_a_prediction_is_answered_and_recorded_bit_for_bit(
    place: Any, running: Any, database_url: str, make_picture: Any
) -> None:
    migrate(database_url)
    place.publish("7")
    async with running(place.settings(database_url=database_url, replica="serving-2")) as (_, client):
        await until_ready(client)
        response = await client.post("/predict", content=make_picture(), headers=JPEG)
        assert response.status_code == 200, response.text
    answer = response.json()
    query = "SELECT request_id, replica, model_version, label, probabilities FROM predictions"
    with psycopg.connect(database_url) as connection:
        # binary: as text PostgreSQL prints the shortest number that reads back as the same float32, which is another float64
        row = connection.cursor(binary=True).execute(query).fetchone()
    assert row is not None
    assert row[:4] == (answer["request_id"], "serving-2", "7", answer["label"])
    assert row[4] == answer["probabilities"]


async def test_it_is_live_at_once_and_ready_when_the_model_is(place: Any, running: Any) -> None:
    async with running(place.settings()) as (_, client):
        assert (await client.get("/health/live")).json() == {"status": "live"}
        waiting = await client.get("/health/ready")
        assert waiting.status_code == 503
        assert waiting.headers["Retry-After"] == "1"
        assert waiting.json()["code"] == "model-not-ready"
        assert "X-Model-Version" not in waiting.headers
        place.publish("5")
        ready = await until_ready(client)
    assert ready.json() == {"status": "ready", "replica": "serving-1", "model_version": "5"}
    assert ready.headers["X-Model-Version"] == "5"


async def test_a_loaded_model_outlives_registry_and_database(place: Any, running: Any, make_picture: Any) -> None:
    place.publish()
    async with running(place.settings()) as (service, client):  # the settings name a database that is not there
        await until_ready(client)
        place.registry.status = 503
        service.recorder._capacity = 0
        answers = [await client.post("/predict", content=make_picture(seed=seed), headers=JPEG) for seed in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_draining_takes_readiness_and_still_answers(place: Any, running: Any, make_picture: Any) -> None:
    place.publish()
    async with running(place.settings()) as (service, client):
        await until_ready(client)
        service.draining = True
        service.recorder._capacity = 0
        refused = await client.get("/health/ready")
        assert (refused.status_code, "shutting down" in refused.json()["detail"]) == (503, True)
        assert (await client.post("/predict", content=make_picture(), headers=JPEG)).status_code == 200
