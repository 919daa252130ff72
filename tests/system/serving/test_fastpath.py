"""Both ways to an answer are one: the same statuses, headers and bodies, whatever is sent."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from system.contracts import Prediction, Problem, V2InferResponse
from system.serving.exchange import Exchange
from system.serving.service import Service

JPEG = {"Content-Type": "image/jpeg"}
V2 = "/v2/models/digits-resnet8/infer"


@pytest.fixture
def service(ready: tuple[Service, httpx.AsyncClient]) -> Service:
    return ready[0]


class Through:
    """One layer of the application, with what the layers outside of it would have put into the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if Exchange.KEY not in scope:
            Exchange.begin(scope, 0.0)
        await self._app(scope, receive, send)


@pytest.fixture
def ways(service: Service, application: Any) -> tuple[ASGIApp, ASGIApp]:
    """The fast path, and what lies behind it."""
    app = application(service)
    observer = app.build_middleware_stack()
    fast = observer._app
    return Through(fast), Through(fast._app)


async def ask(app: ASGIApp, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(path, content=content, headers={"X-API-Key": "the-test-key", "X-Request-ID": "one"} | headers)


def tensors(image: bytes, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    element = len(image).to_bytes(4, "little") + image
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return head + element, {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}


def cases(make_picture: Any) -> list[tuple[str, bytes, dict[str, str]]]:
    image = make_picture()
    body, binary = tensors(image)
    both, binary_out = tensors(make_picture("PNG"), binary_data_output=True)
    return [
        ("/predict", image, JPEG),
        ("/predict", make_picture("PNG"), {"Content-Type": "image/png"}),
        ("/predict", make_picture("WEBP"), {"Content-Type": "image/webp"}),
        ("/predict", image, JPEG | {"X-Request-Timeout-Ms": "10000"}),
        ("/predict", image, JPEG | {"X-Request-Timeout-Ms": "soon"}),
        ("/predict", image, JPEG | {"X-API-Key": "another"}),
        ("/predict", image[:-100], JPEG),
        ("/predict", image, {"Content-Type": "image/png"}),
        ("/predict", b"", JPEG),
        ("/predict", b"\xff\xd8\xff" + bytes(100_001), JPEG),
        (V2, body, binary),
        (V2, both, binary_out),
        (V2, body[:-1], binary),
        (V2, body, binary | {"Inference-Header-Content-Length": "-1"}),
        (V2, body, binary | {"X-API-Key": "another"}),
        (V2, body, binary | {"Content-Encoding": "gzip"}),
    ]


async def test_the_fast_path_and_the_routes_answer_alike(ways: tuple[ASGIApp, ASGIApp], make_picture: Any) -> None:
    fast, routed = ways
    seen = set()
    for path, content, headers in cases(make_picture):
        first, second = [await ask(way, path, content, headers) for way in (fast, routed)]
        what = (path, headers, first.text if len(first.content) < 2000 else "")
        assert first.status_code == second.status_code, what
        assert sorted(first.headers.items()) == sorted(second.headers.items()), what
        assert first.content == second.content, what
        seen.add(first.status_code)
        if first.status_code != 200:
            Problem.model_validate_json(first.content)
        elif path == "/predict":
            Prediction.model_validate_json(first.content)
        elif first.headers["Content-Type"] == "application/json":
            V2InferResponse.model_validate_json(first.content)
    assert seen == {200, 400, 401, 413, 415}


async def test_only_the_usual_requests_take_the_short_way(service: Service, make_picture: Any) -> None:
    """Sabotage: with nothing behind the fast path, what it answers itself still works and everything else does not."""
    from system.serving.fastpath import FastPath  # noqa: PLC0415 - the class under test, where it is used

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = Through(FastPath(nothing, service))
    body, binary = tensors(make_picture())
    assert (await ask(app, "/predict", make_picture(), JPEG)).status_code == 200
    assert (await ask(app, V2, body, binary)).status_code == 200
    assert (await ask(app, "/predict", b"{}", {"Content-Type": "application/json"})).status_code == 418
    assert (await ask(app, V2, b"{}", {"Content-Type": "application/json"})).status_code == 418
    assert (await ask(app, "/predict/", make_picture(), JPEG)).status_code == 418


async def test_the_numbers_of_all_protocols_are_the_same(ways: tuple[ASGIApp, ASGIApp], make_picture: Any) -> None:
    image = make_picture()
    body, binary = tensors(image, binary_data_output=True)
    plain = (await ask(ways[0], "/predict", image, JPEG)).json()["probabilities"]
    answer = await ask(ways[0], V2, body, binary)
    head = json.loads(answer.content[: int(answer.headers["Inference-Header-Content-Length"])])
    assert head["outputs"][0]["name"] == "probabilities"
    found = np.frombuffer(answer.content[int(answer.headers["Inference-Header-Content-Length"]) :], "<f4", 10)
    assert np.array_equal(np.array(plain, np.float32), found)
