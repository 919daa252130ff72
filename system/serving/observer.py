"""The outermost layer: a request gets its ids; its answer is counted, timed, logged, traced; the unexpected becomes a 500."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from time import perf_counter
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from system.contracts import MODEL_VARIANT_HEADER, MODEL_VERSION_HEADER, REQUEST_ID_HEADER, TRACE_HEADER
from system.errors import Overloaded
from system.serving.auth import Bucket
from system.serving.exchange import Exchange
from system.serving.meters import request_errors, request_seconds, requests
from system.serving.problems import INTERNAL, problem
from system.serving.tracing import Finished, Tracer

log = logging.getLogger(__name__)

CLIENT_LEFT = 499  # NGINX's number for a client that closed the connection before the answer
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID_HEADER = REQUEST_ID_HEADER.lower().encode()
_TRACE_HEADER = TRACE_HEADER.encode()
_VERSION_HEADER = MODEL_VERSION_HEADER.lower().encode()
_VARIANT_HEADER = MODEL_VARIANT_HEADER.lower().encode()
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_CLOSE = (b"connection", b"close")
# Refusals come by the thousand when the service is overloaded, and a line costs more than a refusal: beyond this they are
# only counted, in the metrics and in the field `unlogged` of the next line.
_LOGGED_REFUSALS_PER_S = 50.0


class Loaded(Protocol):
    """Knows what is served."""

    @property
    def version(self) -> str:
        """Of the model; empty while none is loaded."""


class Served(Protocol):
    """What is observed: a `Service`."""

    @property
    def loader(self) -> Loaded:
        """Of the model."""

    @property
    def draining(self) -> bool:
        """Whether the process is shutting down: then each answer is its connection's last."""


class Observer:
    """Pure ASGI. Every response carries its ids and the security headers, and X-Model-Version as soon as a model is loaded.

    Args:
        app: what answers.
        service: on whose behalf.
        label: from a path to its route, never what a client invents: it becomes a label of metrics.
        tracer: takes the spans of sampled requests; without one, only requests whose sender says so count as sampled.
    """

    def __init__(self, app: ASGIApp, *, service: Served, label: Callable[[str], str], tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer
        self._share = tracer.share if tracer else 0.0
        self._service = service
        self._label = label
        self._log_budget = Bucket(_LOGGED_REFUSALS_PER_S)
        self._unlogged = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.begin(scope, self._share)
        status = 0

        def observed_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *self._headers(exchange)]}
            elif not message.get("more_body", False):
                # before the last byte leaves: what a client has seen answered is never missing from the counts
                self._record(scope, exchange, status)
            return send(message)

        try:
            await self._app(scope, receive, observed_send)
        except ClientDisconnect:
            self._record(scope, exchange, CLIENT_LEFT)
        except Exception:
            log.exception("request failed", extra=exchange.ids() | {"path": self._label(scope["path"])})
            if status:  # part of an answer is out: the connection must break, so that nobody takes it for a whole one
                raise
            await problem(exchange, 500, "internal", INTERNAL)(scope, receive, observed_send)

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = [
            *SECURITY,
            (_ID_HEADER, exchange.request_id.encode()),
            (_TRACE_HEADER, exchange.trace.header()),
        ]
        if version := exchange.model_version or self._service.loader.version:
            headers.append((_VERSION_HEADER, version.encode()))
        if exchange.variant:
            headers.append((_VARIANT_HEADER, exchange.variant.encode()))
        if self._service.draining:
            headers.append(_CLOSE)
        return headers

    def _record(self, scope: Scope, exchange: Exchange, status: int) -> None:
        ended = perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        path = self._label(scope["path"])
        count, observe = _meters(method, path, status)
        count()
        observe(ended - exchange.arrived)
        if status >= 500 or exchange.code == Overloaded.code:
            request_errors(path, status).inc()
        if self._tracer and exchange.trace.sampled:
            self._tracer.offer(_span(exchange, method, path, status, ended))
        # thousands of successes a second would drown the disk; they are counted above and kept in the prediction log
        if status >= 400 or log.isEnabledFor(logging.DEBUG):
            self._log(exchange, method, path, status, ended)

    def _log(self, exchange: Exchange, method: str, path: str, status: int, ended: float) -> None:
        if 400 <= status != 500 and self._log_budget.take(ended):
            self._unlogged += 1
            return
        fields = exchange.ids() | {
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round((ended - exchange.arrived) * 1000, 3),
            "model_version": exchange.model_version,
            "variant": exchange.variant,
            "key": exchange.key_name,
            "code": exchange.code,
        }
        if self._unlogged:
            fields["unlogged"], self._unlogged = self._unlogged, 0
        log.log(logging.INFO if status >= 400 else logging.DEBUG, "request answered", extra=fields)


def _span(exchange: Exchange, method: str, path: str, status: int, ended: float) -> Finished:
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": path,
        "http.response.status_code": status,
        "request.id": exchange.request_id,
        "model.version": exchange.model_version,
        "model.variant": exchange.variant,
        "error.type": exchange.code,
    }
    known = {name: value for name, value in attributes.items() if value}
    return Finished(exchange.trace, f"{method} {path}", exchange.arrived, ended, status, known, exchange.stages)


@cache
def _meters(method: str, path: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    return requests(method, path, status).inc, request_seconds(path).observe
