"""The HTTP interface: what is answered, what is refused, and that both are documented."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from system.contracts import Prediction, Problem
from system.model.transform import to_tensor
from system.serving.service import Service

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def client(ready: tuple[Service, httpx.AsyncClient]) -> httpx.AsyncClient:
    return ready[1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_the_answer_is_the_models_own_to_the_last_bit(
    place: Any, ready: tuple[Service, httpx.AsyncClient], make_picture: Any, kind: str
) -> None:
    media_type, image = f"image/{kind.lower()}", make_picture(kind)
    response = await ready[1].post("/predict", content=image, headers={"Content-Type": media_type, "X-Request-ID": "mine.1"})
    answer = Prediction.model_validate_json(response.content)
    session = onnxruntime.InferenceSession(place.root / "objects/ml-models-production/digits-resnet8/4/model.onnx")
    expected = session.run(None, {"image": to_tensor(image, media_type, max_pixels=10**6)})[0][0]
    assert np.array_equal(np.array(answer.probabilities, np.float32), expected)
    assert [float(value) for value in expected] == answer.probabilities
    assert answer.label == str(expected.argmax())
    assert answer.confidence == float(expected.max())
    assert (answer.request_id, response.headers["X-Request-ID"]) == ("mine.1", "mine.1")
    assert (answer.model_version, response.headers["X-Model-Version"]) == ("4", "4")


@pytest.mark.parametrize("declared", ["image/png", "application/octet-stream", None])
async def test_a_form_with_one_file_answers_as_the_raw_image_does(
    client: httpx.AsyncClient, make_picture: Any, declared: str | None
) -> None:
    image = make_picture("PNG")
    raw = await client.post("/predict", content=image, headers={"Content-Type": "image/png"})
    part = ("digit", image, declared) if declared else ("digit", image)
    form = await client.post("/predict", files={"file": part}, data={"note": "ignored"})
    assert form.status_code == 200, form.text
    assert form.json()["probabilities"] == raw.json()["probabilities"]


def _problem(response: httpx.Response, status: int, code: str) -> Problem:
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.status, problem.code) == (status, status, code), problem
    assert problem.type.endswith(code)
    assert problem.request_id == response.headers["X-Request-ID"]
    return problem


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"GIF89a", {"Content-Type": "image/gif"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Type": "application/json"}, 415, "unsupported-media-type"),
        (b"x", {}, 415, "unsupported-media-type"),
        (b"not an image", JPEG, 400, "invalid-image"),
        (b"", JPEG, 400, "invalid-image"),
        (b"0" * 100_001, JPEG, 413, "payload-too-large"),
        (b"--b--", {"Content-Type": "multipart/form-data"}, 400, "bad-request"),
        (b"x", JPEG | {"X-API-Key": "wrong"}, 401, "unauthorized"),
        (b"x", JPEG | {"X-API-Key": ""}, 401, "unauthorized"),
    ],
)
async def test_what_is_wrong_is_refused(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    _problem(await client.post("/predict", content=content, headers=headers), status, code)


async def test_without_a_key_nothing_else_is_looked_at(client: httpx.AsyncClient) -> None:
    del client.headers["X-API-Key"]
    response = await client.post("/predict", content=b"x" * 200_000)
    assert "X-API-Key" in _problem(response, 401, "unauthorized").detail
    assert response.headers["WWW-Authenticate"] == "ApiKey"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
async def test_a_truncated_image_is_refused(client: httpx.AsyncClient, make_picture: Any, kind: str) -> None:
    image = make_picture(kind)
    response = await client.post("/predict", content=image[: len(image) // 2], headers={"Content-Type": f"image/{kind.lower()}"})
    _problem(response, 400, "invalid-image")


async def test_a_decompression_bomb_is_refused(client: httpx.AsyncClient) -> None:
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xff\xff\x00\x00\xff\xff\x08\x02\x00\x00\x00"
    response = await client.post("/predict", content=header + b"\0" * 40, headers={"Content-Type": "image/png"})
    _problem(response, 400, "invalid-image")


async def test_a_body_of_undeclared_length_is_cut_off_at_the_limit(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"0" * 1000

    _problem(await client.post("/predict", content=endless(), headers=JPEG), 413, "payload-too-large")


async def test_unknown_paths_and_methods_have_the_same_shape(client: httpx.AsyncClient) -> None:
    _problem(await client.get("/nowhere"), 404, "not-found")
    _problem(await client.post("/predict/"), 404, "not-found")
    response = await client.get("/predict")
    _problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "POST"


async def test_no_model_is_503_with_the_time_to_wait(ready: tuple[Service, httpx.AsyncClient], make_picture: Any) -> None:
    ready[0].loader.production = None
    response = await ready[1].post("/predict", content=make_picture(), headers=JPEG)
    _problem(response, 503, "model-not-ready")
    assert response.headers["Retry-After"] == "1"


async def test_an_unexpected_failure_discloses_nothing(
    ready: tuple[Service, httpx.AsyncClient], make_picture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ready[0].loader.production.labels = ()  # type: ignore[union-attr]
    response = await ready[1].post("/predict", content=make_picture(), headers=JPEG)
    problem = _problem(response, 500, "internal")
    assert "index" not in response.text
    failed = next(record for record in caplog.records if record.exc_info)
    assert failed.__dict__["request_id"] == problem.request_id


async def test_metrics_are_served(client: httpx.AsyncClient) -> None:
    metrics = await client.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=")
    assert "model_version 4.0" in metrics.text.splitlines()


async def test_the_document_lists_every_status_and_media_type(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"/predict", "/health/live", "/health/ready", "/metrics", "/v1/models/{name}:predict", "/v2"} < set(document["paths"])
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"image/jpeg", "image/png", "image/webp", "multipart/form-data"}
    assert set(predict["responses"]) == {"200", "400", "401", "403", "408", "413", "415", "429", "431", "500", "503"}
    assert predict["responses"]["413"]["content"].keys() == {"application/problem+json"}
    assert predict["security"] == [{"ApiKey": []}]
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named <= document["components"]["schemas"].keys()
    assert (await client.get("/openapi.json")).json() == document
