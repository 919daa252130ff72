"""One prediction without any framework: as a second way in would ask for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers

from system.contracts import Prediction
from system.errors import ModelNotReady, RequestRefused, Unauthorized, UnsupportedMedia
from system.serving.exchange import Exchange
from system.serving.service import Service

KEY = {"X-API-Key": "the-test-key"}


async def _nothing_is_read() -> Any:
    pytest.fail("the body was read before the request was refused")


async def test_the_answer_and_the_record_are_the_same(place: Any, make_picture: Any) -> None:
    place.publish("6")
    service, image = Service(place.settings()), make_picture()
    await asyncio.wait_for(service.loader.run(), 10)
    exchange = Exchange("r1")

    async def receive() -> Any:
        return {"type": "http.request", "body": image}

    body = await service.predict(Headers(KEY | {"Content-Type": "image/jpeg"}), receive, exchange)
    answer = Prediction.model_validate_json(body)
    (row,) = service.recorder._queue
    assert (row.request_id, row.model_version, row.label) == ("r1", "6", answer.label)
    assert (answer.request_id, answer.model_version, exchange.model_version) == ("r1", "6", "6")
    assert row.probabilities == answer.probabilities
    assert (row.media_type, row.replica) == ("image/jpeg", "serving-1")


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, Unauthorized),
        (KEY | {"Content-Type": "text/plain"}, UnsupportedMedia),
        (KEY | {"Content-Type": "image/png"}, ModelNotReady),
    ],
)
async def test_the_cheap_refusals_come_before_the_body(place: Any, headers: dict[str, str], error: type[RequestRefused]) -> None:
    service = Service(place.settings())
    with pytest.raises(error):
        await service.predict(Headers(headers), _nothing_is_read, Exchange("r1"))


def test_readiness_needs_a_model_and_no_shutdown(place: Any) -> None:
    service = Service(place.settings(replica="serving-9"))
    with pytest.raises(ModelNotReady, match="no model is loaded: the registry's first answer"):
        service.require_ready()
    service.draining = True
    with pytest.raises(ModelNotReady, match="serving-9 is shutting down"):
        service.require_ready()
