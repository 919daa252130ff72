from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from system import telemetry
from system.serving.exchange import Exchange
from system.serving.observer import Observer
from system.serving.tracing import Tracer

TRACE = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class Loaded:
    version: str = "8"


@dataclass
class Service:
    """What the observer asks of a service."""

    loader: Loaded = field(default_factory=Loaded)
    draining: bool = False


def _label(path: str) -> str:
    return path if path == "/known" else telemetry.UNMATCHED


async def _ask(
    app: Any,
    path: str = "/known",
    method: str = "GET",
    *,
    service: Service | None = None,
    tracer: Tracer | None = None,
    **more: Any,
) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"x-request-id", b"r1"), *more.pop("headers", [])]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, **more}
    await Observer(app, service=service or Service(), label=_label, tracer=tracer)(scope, receive, send)
    return sent


def _fields(sent: list[Message]) -> dict[bytes, bytes]:
    names = [name for name, _ in sent[0]["headers"]]
    assert len(names) == len(set(names)), f"a header twice: {names}"
    return dict(sent[0]["headers"])


def _count(method: str, path: str, status: int) -> float:
    labels = {"method": method, "path": path, "status": str(status)}
    return telemetry.REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


def _timed(path: str, what: str = "count") -> float:
    return telemetry.REGISTRY.get_sample_value(f"http_request_duration_seconds_{what}", {"path": path}) or 0.0


def _errors(path: str, status: int) -> float:
    return telemetry.REGISTRY.get_sample_value("http_request_errors_total", {"path": path, "status": str(status)}) or 0.0


async def test_an_answer_is_counted_timed_and_marked() -> None:
    before, timed = _count("GET", "/known", 200), _timed("/known")
    fields = _fields(await _ask(Response(b"ok")))
    assert fields[b"x-request-id"] == b"r1"
    assert fields[b"x-model-version"] == b"8"
    assert (_count("GET", "/known", 200) - before, _timed("/known") - timed) == (1, 1)


async def test_the_time_counts_from_the_arrival_on_the_wire() -> None:
    before = _timed("/known", "sum")
    arrived: dict[str, Any] = {"system.arrived": 0.001}  # when the clock began: long before this test
    await _ask(Response(b"ok"), **arrived)
    assert _timed("/known", "sum") - before > 1


async def test_the_count_is_there_before_the_client_can_see_the_answer() -> None:
    before = _count("GET", "/known", 200)
    seen: list[float] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            seen.append(_count("GET", "/known", 200) - before)

    scope = {"type": "http", "method": "GET", "path": "/known", "headers": []}
    await Observer(Response(b"ok"), service=Service(), label=_label)(scope, None, send)  # type: ignore[arg-type]
    assert seen == [1]


async def test_every_answer_carries_the_security_headers_also_an_error() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    for app in (Response(b"ok"), Response(status_code=404), broken):
        fields = _fields(await _ask(app))
        assert fields[b"x-content-type-options"] == b"nosniff"
        assert fields[b"cache-control"] == b"no-store"
        assert fields[b"referrer-policy"] == b"no-referrer"
        assert fields[b"content-security-policy"] == b"default-src 'none'; frame-ancestors 'none'"


async def test_the_model_that_answered_is_named_not_the_one_that_serves_now() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.model_version, exchange.variant = "7", "int8"
        await Response(b"ok")(scope, receive, send)

    fields = _fields(await _ask(app))
    assert (fields[b"x-model-version"], fields[b"x-model-variant"]) == (b"7", b"int8")


async def test_without_a_model_none_is_named() -> None:
    fields = _fields(await _ask(Response(b"ok"), service=Service(Loaded(""))))
    assert not {b"x-model-version", b"x-model-variant"} & set(fields)


async def test_while_draining_each_answer_is_its_connections_last() -> None:
    assert b"connection" not in _fields(await _ask(Response(b"ok")))
    assert _fields(await _ask(Response(b"ok"), service=Service(draining=True)))[b"connection"] == b"close"


async def test_the_answer_says_where_it_stands_in_the_senders_trace() -> None:
    sent = await _ask(Response(b"ok"), headers=[(b"traceparent", f"00-{TRACE}-b7ad6b7169203331-00".encode())])
    version, trace_id, span_id, flags = _fields(sent)[b"traceparent"].decode().split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "00")
    assert span_id != "b7ad6b7169203331"


async def test_a_sampled_request_leaves_a_span() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.code, exchange.stages = "overloaded", (("decode", 1.0, 2.0),)
        await Response(status_code=503)(scope, receive, send)

    tracer = Tracer("http://127.0.0.1:9/v1/traces", share=1, replica="r")
    sent = await _ask(app, "/known", "POST", tracer=tracer)
    (span,) = tracer._queue
    assert span.trace.header() == _fields(sent)[b"traceparent"]
    assert (span.name, span.status, span.stages) == ("POST /known", 503, (("decode", 1.0, 2.0),))
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/known",
        "http.response.status_code": 503,
        "request.id": "r1",
        "error.type": "overloaded",
    }
    await _ask(app, tracer=tracer, headers=[(b"traceparent", f"00-{TRACE}-b7ad6b7169203331-00".encode())])
    assert len(tracer._queue) == 1


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
        sent = await _ask(Response(status_code=404), query_string=b"email=a@b.example")
    (record,) = caplog.records
    assert (record.__dict__["status"], record.__dict__["path"], record.__dict__["request_id"]) == (404, "/known", "r1")
    ids = (record.__dict__["trace_id"], record.__dict__["span_id"])
    assert "-".join(ids).encode() in _fields(sent)[b"traceparent"]
    assert "a@b" not in telemetry.JsonLines("pod").format(record)
    with caplog.at_level(logging.DEBUG, "system.serving.observer"):
        await _ask(Response(b"ok"))
    assert caplog.records[-1].__dict__["status"] == 200


async def test_a_flood_of_refusals_is_counted_and_not_logged_but_failures_are(caplog: pytest.LogCaptureFixture) -> None:
    status, refused = 429, _count("GET", "/known", 429)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=status)(scope, receive, send)

    async def send(message: Message) -> None:
        pass

    observer = Observer(app, service=Service(), label=_label)
    scope = {"type": "http", "method": "GET", "path": "/known", "headers": []}
    with caplog.at_level(logging.INFO, "system.serving.observer"):
        for _ in range(5000):  # far faster than they are logged
            await observer(dict(scope), None, send)  # type: ignore[arg-type]
        assert 50 <= len(caplog.records) < 4000
        assert _count("GET", "/known", 429) - refused == 5000
        logged, status = len(caplog.records), 500
        for _ in range(3):
            await observer(dict(scope), None, send)  # type: ignore[arg-type]
    assert len(caplog.records) == logged + 3
    assert sum(record.__dict__.get("unlogged", 0) for record in caplog.records) + logged == 5000


async def test_other_kinds_of_connection_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Observer(app, service=Service(), label=_label)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
