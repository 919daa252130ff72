from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from system import telemetry
from system.serving.observer import Observer


async def _ask(app: Any, path: str = "/known", method: str = "GET") -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-request-id", b"r1")]}
    await Observer(app, paths=["/known"], model_version=lambda: "8")(scope, receive, send)
    return sent


def _count(method: str, path: str, status: int) -> float:
    labels = {"method": method, "path": path, "status": str(status)}
    return telemetry.REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


def _timed(path: str) -> float:
    return telemetry.REGISTRY.get_sample_value("http_request_duration_seconds_count", {"path": path}) or 0.0


def _errors(path: str, status: int) -> float:
    return telemetry.REGISTRY.get_sample_value("http_request_errors_total", {"path": path, "status": str(status)}) or 0.0


async def test_an_answer_is_counted_timed_and_marked() -> None:
    before, timed = _count("GET", "/known", 200), _timed("/known")
    sent = await _ask(Response(b"ok"))
    assert dict(sent[0]["headers"])[b"x-request-id"] == b"r1"
    assert dict(sent[0]["headers"])[b"x-model-version"] == b"8"
    assert (_count("GET", "/known", 200) - before, _timed("/known") - timed) == (1, 1)


async def test_the_count_is_there_before_the_client_can_see_the_answer() -> None:
    before = _count("GET", "/known", 200)
    seen: list[float] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            seen.append(_count("GET", "/known", 200) - before)

    scope = {"type": "http", "method": "GET", "path": "/known", "headers": []}
    await Observer(Response(b"ok"), paths=["/known"], model_version=str)(scope, None, send)  # type: ignore[arg-type]
    assert seen == [1]


async def test_what_a_client_invents_becomes_no_label() -> None:
    before = _count("OTHER", telemetry.UNMATCHED, 404)
    await _ask(Response(status_code=404), "/a/raw/path", "BREW")
    assert _count("OTHER", telemetry.UNMATCHED, 404) - before == 1
    assert "/a/raw/path" not in telemetry.exposition().decode()


async def test_an_exception_is_a_500_that_is_counted_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the secret reason")

    before, errors = _count("GET", "/known", 500), _errors("/known", 500)
    sent = await _ask(broken)
    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert (_count("GET", "/known", 500) - before, _errors("/known", 500) - errors) == (1, 1)
    assert "the secret reason" in caplog.text


async def test_half_an_answer_breaks_the_connection() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await _ask(broken)


async def test_a_client_that_leaves_is_no_error_of_ours() -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    before = _count("GET", "/known", 499)
    assert await _ask(left) == []
    assert _count("GET", "/known", 499) - before == 1


async def test_errors_are_logged_and_successes_only_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "system.serving.observer"):
        await _ask(Response(b"ok"))
        assert not caplog.records
        await _ask(Response(status_code=404))
    (record,) = caplog.records
    assert (record.__dict__["status"], record.__dict__["path"], record.__dict__["trace_id"]) == (404, "/known", "r1")
    with caplog.at_level(logging.DEBUG, "system.serving.observer"):
        await _ask(Response(b"ok"))
    assert caplog.records[-1].__dict__["status"] == 200


async def test_other_kinds_of_connection_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Observer(app, paths=[], model_version=str)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
