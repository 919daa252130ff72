"""One prediction without any framework: as a second way in would ask for it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from system import telemetry
from system.contracts import Prediction
from system.errors import (
    DeadlineExceeded,
    InvalidImage,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    RequestRefused,
    Unauthorized,
    UnsupportedMedia,
)
from system.model.artifact import verify
from system.serving.exchange import Exchange
from system.serving.images import is_light
from system.serving.predictor import Predictor
from system.serving.service import Service
from system.serving.traffic import challenged
from system.storage.tables import real_array

KINDS = ("jpeg", "png", "webp")
KEY = {"x-api-key": "the-test-key"}


async def _nothing_is_read() -> Any:
    pytest.fail("the body was read before the request was refused")


def asked(body: bytes, **headers: str) -> tuple[Any, Exchange]:
    """What the server would call: a way to receive the body, and the exchange of a request with these headers."""

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    fields = {name.replace("_", "-").encode(): value.encode() for name, value in (KEY | headers).items()}
    return receive, Exchange("r1", fields=fields)


@pytest.fixture
def service(place: Any) -> Service:
    """Loaded, and not started: nothing of it runs beside the test."""
    folder = place.publish("6")
    service = Service(place.settings())
    service.loader.production = Predictor(folder, verify(folder))
    return service


async def test_the_answer_and_the_record_are_the_same(service: Service, make_picture: Any) -> None:
    image = make_picture()
    receive, exchange = asked(image, content_type="image/jpeg")
    answer = Prediction.model_validate_json((await service.predict(receive, exchange)).body)
    (row,) = service.recorder._queue
    assert (row.request_id, row.model_version, row.label) == ("r1", "6", answer.label)
    assert (answer.request_id, answer.model_version, exchange.model_version) == ("r1", "6", "6")
    assert row.probabilities == real_array(answer.probabilities)
    assert answer.confidence == max(answer.probabilities) == answer.probabilities[int(answer.label)]
    assert (row.media_type, row.replica, row.variant) == ("image/jpeg", "serving-1", "fp32")
    assert (row.input_sha256, row.trace_id) == (sha256(image).digest(), exchange.trace.trace_id)


def _sample(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


async def test_each_answer_is_measured_and_a_refusal_is_none(service: Service, make_picture: Any) -> None:
    names = [("request_stage_duration_seconds_count", {"stage": stage}) for stage in telemetry.STAGES]
    names += [("model_predictions_total", {"model_version": "6"}), ("model_prediction_duration_seconds_count", {})]
    before = [_sample(name, **labels) for name, labels in names]
    await service.predict(*asked(make_picture(), content_type="image/jpeg"))
    with pytest.raises(InvalidImage):
        await service.predict(*asked(b"no image", content_type="image/jpeg"))
    assert [_sample(name, **labels) for name, labels in names] == [value + 1 for value in before]


async def test_big_images_and_many_give_the_answers_of_each_alone(service: Service, make_picture: Any) -> None:
    images = [make_picture("JPEG", (800, 700), 4), make_picture("PNG", (20, 20), 5), make_picture("WEBP", (300, 200), 6)]
    assert [is_light(image, f"image/{kind}") for image, kind in zip(images, KINDS, strict=True)] == [False, True, False]
    alone = []
    for image, kind in zip(images, KINDS, strict=True):
        reply = await service.predict(*asked(image, content_type=f"image/{kind}"))
        alone.append(json.loads(reply.body)["probabilities"])
    body = json.dumps({"instances": [{"b64": b64encode(image).decode()} for image in images]}).encode()
    together = json.loads((await service.predict_v1(*asked(body), "digits-resnet8")).body)["predictions"]
    assert [one["probabilities"] for one in together] == [pytest.approx(row, abs=1e-6) for row in alone]
    assert len(service.recorder._queue) == 6


async def test_a_model_that_answers_nonsense_gives_no_answer(service: Service, make_picture: Any) -> None:
    predictor = service.loader.production
    assert predictor is not None

    async def nonsense(images: Any) -> Any:
        return np.full((len(images), 10), np.nan, np.float32)

    predictor.infer = nonsense  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="not finite"):
        await service.predict(*asked(make_picture(), content_type="image/jpeg"))
    assert not service.recorder._queue


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, Unauthorized),
        (KEY | {"content-type": "text/plain"}, UnsupportedMedia),
        (KEY | {"content-type": "image/png"}, ModelNotReady),
    ],
)
async def test_the_cheap_refusals_come_before_the_body(place: Any, headers: dict[str, str], error: type[RequestRefused]) -> None:
    service = Service(place.settings())
    fields = {name.encode(): value.encode() for name, value in headers.items()}
    with pytest.raises(error):
        await service.predict(_nothing_is_read, Exchange("r1", fields=fields))


async def test_too_many_that_wait_are_refused_before_the_body(service: Service) -> None:
    service.turns._most_waiting = 0
    with pytest.raises(Overloaded):
        await service.predict(_nothing_is_read, asked(b"", content_type="image/jpeg")[1])


@pytest.mark.parametrize("sent", ["0", "-1", "1.5", "600001", "soon", "", "9999999999999"])
async def test_a_deadline_that_is_none_is_refused(service: Service, make_picture: Any, sent: str) -> None:
    with pytest.raises(RequestRefused, match="send whole milliseconds, 1 to 600000"):
        await service.predict(*asked(make_picture(), content_type="image/jpeg", x_request_timeout_ms=sent))


async def test_a_deadline_that_passed_is_an_answer_that_nobody_computes(service: Service) -> None:
    _, exchange = asked(b"", content_type="image/jpeg", x_request_timeout_ms="100")
    exchange.arrived -= 1
    with pytest.raises(DeadlineExceeded, match="no answer within the 100 ms"):
        await service.predict(_nothing_is_read, exchange)


async def test_a_body_that_comes_after_the_deadline_is_not_waited_for(service: Service) -> None:
    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        await service.predict(never, asked(b"", content_type="image/jpeg", x_request_timeout_ms="20")[1])


async def test_a_deadline_that_is_kept_changes_nothing(service: Service, make_picture: Any) -> None:
    plain = await service.predict(*asked(make_picture(), content_type="image/jpeg"))
    in_time = await service.predict(*asked(make_picture(), content_type="image/jpeg", x_request_timeout_ms="60000"))
    assert in_time == plain


async def test_the_same_key_always_meets_the_same_model(place: Any, make_picture: Any) -> None:
    first, second = place.publish("6"), place.publish("7", seed=1, challenge=True)
    service = Service(place.settings(challenger_share=0.3))
    service.loader.production = Predictor(first, verify(first))
    service.loader.challenger = Predictor(second, verify(second))
    met: dict[str, str] = {}
    for _ in range(2):
        for key in map(str, range(100)):
            receive, exchange = asked(make_picture(), content_type="image/jpeg", x_assignment_key=key)
            await service.predict(receive, exchange)
            assert met.setdefault(key, exchange.model_version) == exchange.model_version
            assert (exchange.model_version == "7") is challenged(key, 0.3)
    assert set(met.values()) == {"6", "7"}


async def test_a_version_in_the_path_decides_alone(place: Any, service: Service, make_picture: Any) -> None:
    second = place.publish("7", seed=1, challenge=True)
    service.loader.challenger = Predictor(second, verify(second))
    element = len(make_picture()).to_bytes(4, "little") + make_picture()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    for version in ("6", "7"):
        receive, exchange = asked(head + element, inference_header_content_length=str(len(head)))
        await service.infer_v2(receive, exchange, "digits-resnet8", version)
        assert exchange.model_version == version
    with pytest.raises(ModelNotFound, match="version '8' of 'digits-resnet8' is not loaded"):
        await service.infer_v2(*asked(b""), "digits-resnet8", "8")
    with pytest.raises(ModelNotFound, match="there is no model 'other'"):
        await service.predict_v1(*asked(b""), "other")


def test_readiness_needs_a_model_and_no_shutdown(place: Any) -> None:
    service = Service(place.settings(replica="serving-9"))
    with pytest.raises(ModelNotReady, match="no model is loaded: the registry's first answer"):
        service.require_ready()
    service.draining = True
    with pytest.raises(ModelNotReady, match="serving-9 is shutting down"):
        service.require_ready()
