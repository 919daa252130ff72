"""HTTP/1.1 on one connection: what uvicorn's protocol leaves open is decided here.

uvicorn parses with llhttp, strictly, and answers requests in their order. On top of that:

    a head          ends within `header_timeout_s` and 64 KiB, or gets 408 or 431
    a body          that was not read to its end ends the connection with the answer; what still comes of it is read and dropped
    malformed HTTP  gets 400 after the answers that are owed before it, and nothing behind it is taken for a request
    what is sent    ahead of its turn is not read before the turn comes
    a client        that does not read its answers, or holds an idle connection, loses the connection

No request has a timer of its own: once a second `sweep()` looks at every connection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import inf
from time import perf_counter
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from system import telemetry
from system.config import ServeSettings
from system.contracts import REQUEST_ID_HEADER, TRACE_HEADER
from system.errors import MlSystemError, Overloaded, RequestRefused, SlowRequest
from system.serving.exchange import Exchange
from system.serving.meters import requests
from system.serving.observer import SECURITY
from system.serving.problems import refused

log = logging.getLogger(__name__)

SWEEP_S = 1.0
LINGER_S = 5.0  # for what a client still sends after a refusal: one closed at once would often lose the answer to a reset
MAX_HEAD_BYTES = 65_536
MAX_PARKED = 256  # requests sent ahead of their turn
_SINGLE = (b"host", b"content-type", b"x-api-key", b"authorization")  # sent twice, two readers could each believe another one
_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
_VERSIONS = frozenset({"1.0", "1.1"})


class MalformedRequest(RequestRefused):
    """What arrived is no HTTP/1.1 request, or can be read in two ways."""

    code = "malformed-request"


class HeadTooLarge(RequestRefused):
    """The request line and the header fields, or the trailer, are longer than the limit."""

    status = 431
    code = "head-too-large"


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        settings: timeouts and limits.
        config, server_state, app_state, _loop: as uvicorn gives them.
    """

    def __init__(
        self, settings: ServeSettings, config: Config, server_state: ServerState, app_state: dict[str, Any], **rest: Any
    ) -> None:
        super().__init__(config, server_state, app_state, **rest)
        self._settings = settings
        self._stand_in: _StandIn
        self._due = self.loop.time() + settings.header_timeout_s  # when the next sweep may end what is waited for
        self._in_head = False
        self._overhead = 0  # bytes since a head, a piece of a body or a message was complete
        self._unanswered = 0  # requests of which the head is complete and the answer is not
        self._keep_alive = True  # what the request that arrives now asks for
        self._leaving = False  # after the answers that are owed
        self._deaf = False  # what arrives is dropped
        self._half_closed = False
        self._finished = False  # the last answer is out
        self._last_words = b""
        self._stuck_since = inf

    # the connection

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or drop it when too many are open."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        self._stand_in = _StandIn(transport, self)
        if len(self.connections) > self._settings.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._deaf:
            return
        self._overhead += len(data)
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # no other protocol is spoken here: the request was taken as if it had not asked, and what follows is the next one
                data = data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                self._refuse(_reason(error))
                return
            break
        if self._overhead > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(f"header fields are longer than {MAX_HEAD_BYTES} bytes; send fewer"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all may still wait for the answers, unless one of its requests is not whole."""
        if self._unanswered == 0 or self._reading_body():
            return False
        self._half_closed = self._leaving = True
        self.cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Let unfinished requests end without a word."""
        self._stand_in.mute()  # uvicorn tells the newest request only; an older one may still answer
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection as soon as no answer is owed."""
        self._leaving = True
        super().shutdown()

    # the parser

    def on_message_begin(self) -> None:
        """The first byte of a request is here."""
        super().on_message_begin()
        self._in_head = True
        self._due = self.loop.time() + self._settings.header_timeout_s

    def on_headers_complete(self) -> None:
        """The head is whole: its request is begun or, behind others, parked."""
        fields = dict(self.headers)
        version = self.parser.get_http_version()
        if version not in _VERSIONS or self.parser.get_method() == b"CONNECT":
            raise MalformedRequest("only requests of HTTP/1.1 and HTTP/1.0 are answered here, and no CONNECT")
        if len(fields) != len(self.headers):
            self._refuse_doubles()
        if b"host" not in fields and version == "1.1":
            raise MalformedRequest("the Host field is missing")
        if (coding := fields.get(b"transfer-encoding")) is not None and (coding.lower() != b"chunked" or version == "1.0"):
            raise MalformedRequest("of transfer codings only chunked is understood, and only in HTTP/1.1")
        if b"upgrade" in fields and self.parser.should_upgrade() and not fields.keys().isdisjoint(_BODY_FIELDS):
            # the parser takes what follows for the other protocol: the body would be read as the next request
            raise MalformedRequest("no other protocol is spoken here; send a request with a body without Upgrade")
        if len(self.pipeline) >= MAX_PARKED:
            raise Overloaded(f"{MAX_PARKED} requests were sent ahead of their answers; wait for some answers first")
        super().on_headers_complete()
        self.scope["system.arrived"] = perf_counter()  # type: ignore[typeddict-unknown-key]
        self.headers = []  # those of a trailer are nobody's
        self._in_head = False
        self._overhead = 0
        self._unanswered += 1
        cycle = self.cycle
        cycle.transport = self._stand_in  # type: ignore[assignment]
        self._keep_alive = cycle.keep_alive
        cycle.keep_alive = False  # until the body is whole: an answer before that ends the connection
        if version == "1.0":
            cycle.waiting_for_100_continue = False

    def on_body(self, body: bytes) -> None:
        """A piece of a body is here."""
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: its answer need not end the connection."""
        super().on_message_complete()
        self._overhead = 0
        self._due = inf
        cycle = self.cycle
        if not cycle.response_started:
            cycle.keep_alive = self._keep_alive and not self._leaving

    def _refuse_doubles(self) -> None:
        names = [name for name, _ in self.headers]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise MalformedRequest(f"the field {name.decode()} was sent twice")

    # answers

    def on_response_complete(self) -> None:
        """An answer is out: the next request has its turn."""
        self.server_state.total_requests += 1
        self._unanswered -= 1
        self._stand_in.flush()
        if self._finished or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words:
            self._speak()
        elif not self._deaf:
            self.flow.resume_reading()
            if not self._in_head:
                self._due = self.loop.time() + self.timeout_keep_alive

    def finish(self) -> None:
        """Close the connection: at once when all of the request has arrived, else as soon as its client has heard the answer."""
        self._finished = True
        self._stand_in.flush()
        if self._half_closed or not (self._deaf or self._reading_body()):
            self.transport.close()
            return
        self._deaf = True
        self._due = self.loop.time() + LINGER_S
        self.flow.resume_reading()
        self.transport.write_eof()

    def _refuse(self, error: MlSystemError) -> None:
        """Answer `error` when its turn comes, and listen no more."""
        self._deaf = True
        self._due = self.loop.time() + self._settings.header_timeout_s
        headers = self.scope["headers"] if self._in_head or self._reading_body() else []
        exchange = Exchange.begin({"type": "http", "headers": headers}, 0.0)
        answer = refused(exchange, error)
        fields = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            *SECURITY,
            (REQUEST_ID_HEADER.lower().encode(), exchange.request_id.encode()),
            (TRACE_HEADER.encode(), exchange.trace.header()),
            (b"connection", b"close"),
        ]
        head = [STATUS_LINE[error.status], *(b"%b: %b\r\n" % field for field in fields)]
        self._last_words = b"".join([*head, b"\r\n", bytes(answer.body)])
        requests("OTHER", telemetry.UNMATCHED, error.status).inc()
        log.info("request refused: %s", error, extra=exchange.ids() | {"status": error.status, "code": error.code})
        if not self._in_head and self._reading_body():
            self._give_up_on_body()
        if self._unanswered == 0:
            self._speak()

    def _reading_body(self) -> bool:
        """Is a request, the newest, short of its body?"""
        return self.cycle is not None and self.cycle.more_body  # type: ignore[redundant-expr]

    def _give_up_on_body(self) -> None:
        cycle = self.cycle
        if cycle.response_started:  # what is out cannot be taken back, and a second answer would be taken for another request's
            self.transport.abort()
            return
        self._unanswered -= 1
        cycle.more_body = False
        if self.pipeline:  # it has not begun
            self.pipeline.popleft()
        else:
            cycle.disconnected = True
            cycle.message_event.set()

    def _speak(self) -> None:
        self.transport.write(self._last_words)
        self._last_words = b""
        self.finish()

    # once a second

    def look(self, now: float) -> None:
        """End what has waited too long at `now`, the loop's time."""
        settings = self._settings
        if self.transport.is_closing() or self.flow.write_paused:
            self._stuck_since = min(self._stuck_since, now)
            if now - self._stuck_since > settings.body_timeout_s:
                self.transport.abort()
            return
        self._stuck_since = inf
        if self.pipeline:  # nothing is read meanwhile, so nothing can be late
            self._due = max(self._due, now + SWEEP_S)
        elif now > self._due:
            self._end_wait(now)

    def _end_wait(self, now: float) -> None:
        settings = self._settings
        if self._deaf:
            self.transport.abort()
        elif self._in_head:
            self._refuse(SlowRequest(f"the head of the request was not complete within {settings.header_timeout_s:g} s"))
        elif not self._reading_body():
            self.transport.close()
        elif now > self._due + (limit_s := 2 * settings.body_timeout_s):  # for what reads a body without a limit of its own
            self._refuse(SlowRequest(f"the body was not complete within {limit_s:g} s"))


def sweep(connections: Iterable[Any], now: float) -> None:
    """Look at every connection; to be called every `SWEEP_S` seconds with the loop's time."""
    for connection in tuple(connections):
        connection.look(now)


def _reason(error: httptools.HttpParserError) -> MlSystemError:
    """What a callback of the parser raised, or what the parser itself found."""
    if isinstance(error.__context__, MlSystemError):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        return MalformedRequest("the request target is not understood")
    return MalformedRequest(f"not an HTTP/1.1 request: {error}")


class _Flow(FlowControl):
    """Reads nothing while a request waits for its turn: what a client sends ahead costs no memory beyond one read."""

    def __init__(self, transport: Any, protocol: Protocol) -> None:
        super().__init__(transport)
        self._parked = protocol.pipeline

    def resume_reading(self) -> None:
        if not self._parked:
            super().resume_reading()


def _drop(_: bytes) -> None:
    pass


class _StandIn:
    """The transport as uvicorn's cycle of one request uses it: the head of an answer waits for the first of its body.

    Written one by one they would be two system calls and two packets. Closing goes another way too.
    """

    def __init__(self, transport: Any, protocol: Protocol) -> None:
        self._write = transport.write
        self._head = b""
        self.is_closing = transport.is_closing
        self.close = protocol.finish

    def write(self, data: bytes) -> None:
        """Keep a head, write anything else behind the head that was kept."""
        if self._head:
            self._write(self._head + data)
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100 "):
            self._head = data
        else:
            self._write(data)

    def flush(self) -> None:
        """Write the head of an answer that has no body."""
        if self._head:
            self.write(b"")

    def mute(self) -> None:
        """Drop whatever is written from now on."""
        self._head, self._write = b"", _drop
