"""The outermost layer: gives a request its id, counts, times and logs the answer, turns what nobody expected into a 500."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from system import telemetry
from system.contracts import MODEL_VERSION_HEADER, REQUEST_ID_HEADER
from system.serving.exchange import Exchange
from system.serving.problems import INTERNAL, problem

log = logging.getLogger(__name__)

CLIENT_LEFT = 499  # NGINX's number for a client that closed the connection before the answer
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID_HEADER = REQUEST_ID_HEADER.lower().encode()
_VERSION_HEADER = MODEL_VERSION_HEADER.lower().encode()


class Observer:
    """Pure ASGI; every response carries X-Request-ID, and X-Model-Version as soon as a model is loaded.

    Args:
        app: what answers.
        paths: the routes; any other path is counted as one label.
        model_version: the version that is served now; empty while none is.
    """

    def __init__(self, app: ASGIApp, *, paths: Collection[str], model_version: Callable[[], str]) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._model_version = model_version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        exchange = Exchange.begin(scope)
        status = 0

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                version = exchange.model_version or self._model_version()
                headers = [*message["headers"], (_ID_HEADER, exchange.request_id.encode())]
                if version:
                    headers.append((_VERSION_HEADER, version.encode()))
                message = {**message, "headers": headers}
            elif not message.get("more_body", False):
                # before the last byte leaves: what a client has seen answered is never missing from the counts
                self._record(scope, exchange, status, perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except ClientDisconnect:
            self._record(scope, exchange, CLIENT_LEFT, perf_counter() - began)
        except Exception:
            log.exception("request failed", extra={"trace_id": exchange.request_id, "path": scope["path"]})
            if status:  # part of an answer is out: the connection must break, so that nobody takes it for a whole one
                raise
            await problem(exchange, 500, "internal", INTERNAL)(scope, receive, observed_send)

    def _record(self, scope: Scope, exchange: Exchange, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        path = scope["path"] if scope["path"] in self._paths else telemetry.UNMATCHED
        telemetry.requests(method, path, status).inc()
        telemetry.request_seconds(path).observe(seconds)
        if status >= 500:
            telemetry.request_errors(path, status).inc()
        # thousands of successes a second would drown the disk; they are counted above and kept in the prediction log
        level = logging.INFO if status >= 400 else logging.DEBUG
        if log.isEnabledFor(level):
            fields = {
                "trace_id": exchange.request_id,
                "method": method,
                "path": path,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "model_version": exchange.model_version,
                "code": exchange.code,
            }
            log.log(level, "request answered", extra=fields)
