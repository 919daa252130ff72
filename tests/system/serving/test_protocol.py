"""The protocol behind a real socket, in front of an application that fits into a few lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from system.serving.protocol import LINGER_S, MAX_HEAD_BYTES, MAX_PARKED, Protocol, sweep

HOST = b"Host: x\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST
LAST = GET + b"Connection: close\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\n" + HOST


@dataclass
class Wire:
    """A listening protocol. `/read` reads the body and echoes its length, `/hold` waits for `go`, other paths answer at once."""

    port: int = 0
    state: ServerState = field(default_factory=ServerState)
    scopes: list[Scope] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    clients: list[asyncio.StreamWriter] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        size, more = 0, scope["path"] == "/read"
        if scope["path"] == "/hold":
            await self.go.wait()
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(scope["path"])
                return
            size, more = size + len(message["body"]), message["more_body"]
        body = f"{scope['method']} {scope['path']} {size}\n".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def sweep(self, after_s: float) -> None:
        """As if the next sweep came `after_s` from now."""
        sweep(self.state.connections, asyncio.get_running_loop().time() + after_s)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        return reader, writer

    async def talk(self, data: bytes, *, half_close: bool = False) -> list[tuple[int, Any]]:
        """Send all, read until the server ends the connection: status, and the text or the problem's code, of each answer."""
        reader, writer = await self.connect()
        writer.write(data)
        if half_close:
            writer.write_eof()
        return parse(await asyncio.wait_for(reader.read(), 5))


def parse(data: bytes) -> list[tuple[int, Any]]:
    answers = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        body, data = rest[: int(fields["content-length"])], rest[int(fields["content-length"]) :]
        status = int(first.split()[1])
        if status != 200:
            problem = json.loads(body)
            assert fields["content-type"] == "application/problem+json"
            assert fields["connection"] == "close"
            assert fields["x-request-id"] == problem["request_id"].lower()
            assert problem["status"] == status
            assert not data, "nothing is answered after a refusal"
        answers.append((status, body.decode().strip() if status == 200 else problem["code"]))
    return answers


Listen = Callable[..., Any]


@pytest.fixture
def listen(place: Any) -> Listen:
    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Wire]:
        wire = Wire()
        config = uvicorn.Config(
            wire.app, proxy_headers=False, interface="asgi3", ws="none", log_config=None, access_log=False, timeout_keep_alive=75
        )
        config.load()
        make = partial(Protocol, place.settings(**changes), config=config, server_state=wire.state, app_state={})
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        wire.port = server.sockets[0].getsockname()[1]
        try:
            yield wire
        finally:
            server.close()
            for transport in [*(client.transport for client in wire.clients), *(one.transport for one in wire.state.connections)]:
                cast("Any", transport).abort()
            await until(lambda: not wire.state.connections)

    return start


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - much of what is waited for has no event
            await asyncio.sleep(0.001)


async def test_requests_are_answered_in_order_and_know_when_they_arrived(listen: Listen) -> None:
    async with listen() as wire:
        before = perf_counter()
        many = b"".join(b"GET /%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in range(100))
        answers = await wire.talk(many + LAST)
        assert answers == [(200, f"GET /{number} 0") for number in range(100)] + [(200, "GET /a 0")]
        arrived = [scope["system.arrived"] for scope in wire.scopes]
        assert before < arrived[0]
        assert arrived == sorted(arrived)
        assert arrived[-1] < perf_counter()


MALFORMED = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00",
    "HTTP/0.9": b"GET /a\r\n\r\n",
    "HTTP/1.2": b"GET /a HTTP/1.2\r\n\r\n",
    "HTTP/2.0": b"GET /a HTTP/2.0\r\n" + HOST + b"\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": b"GET /a HTTP/1.1\r\n\r\n",
    "two Hosts": GET + HOST + b"\r\n",
    "two keys": GET + b"X-API-Key: a\r\nX-API-Key: b\r\n\r\n",
    "authority form": b"GET x:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form without a path": b"GET http://x HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare LF": b"GET /a HTTP/1.1\nHost: x\n\n",
    "NUL in a value": GET + b"X: a\0b\r\n\r\n",
    "CR in a value": GET + b"X: a\rb\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "folded field": GET + b"X: a\r\n b\r\n\r\n",
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a length that overflows": POST + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "a length in digits of another script": POST + "Content-Length: ٣\r\n\r\nabc".encode(),
    "length, then coding": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding, then length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a coding in HTTP/1.0": b"POST /read HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk with a prefix": POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size that overflows": POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "a chunk that ends in LF": POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "a length in the trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\nabc",
    "Upgrade with a body": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=list(MALFORMED))
async def test_malformed_http_gets_one_400_after_what_was_owed_and_nothing_behind_it_is_a_request(
    listen: Listen, data: bytes
) -> None:
    async with listen() as wire:
        owed = GET + b"\r\n" + POST + b"Content-Length: 3\r\n\r\nabc"
        assert await wire.talk(owed + data + LAST) == [(200, "GET /a 0"), (200, "POST /read 3"), (400, "malformed-request")]
        assert await wire.talk(data) == [(400, "malformed-request")]
        assert wire.scopes[0]["path"] == "/a"
        assert not [scope for scope in wire.scopes[2:] if scope["path"] != "/read"]
        await until(lambda: len(wire.left) == len(wire.scopes) - 2)  # a request whose body broke off ended without an answer


ODD = {
    "a trailer": (POST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-API-Key: a\r\n\r\n", "POST /read 3"),
    "absolute form": (b"GET http://y/a HTTP/1.1\r\n" + HOST + b"\r\n", "GET /a 0"),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", "OPTIONS * 0"),
    "Upgrade": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", "GET /a 0"),
    "a length with zeros": (POST + b"Content-Length: 003\r\n\r\nabc", "POST /read 3"),
    "empty lines before": (b"\r\n\r\n" + GET + b"\r\n", "GET /a 0"),
}


@pytest.mark.parametrize(("data", "answer"), ODD.values(), ids=list(ODD))
async def test_what_is_odd_and_right_is_answered_and_so_is_the_next(listen: Listen, data: bytes, answer: str) -> None:
    async with listen() as wire:
        assert await wire.talk(data + LAST) == [(200, answer), (200, "GET /a 0")]
        assert b"x-api-key" not in dict(wire.scopes[0]["headers"])  # a trailer is no header


async def test_http_1_0_is_answered_and_never_told_to_continue(listen: Listen) -> None:
    async with listen() as wire:
        data = b"POST /read HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
        assert await wire.talk(data) == [(200, "POST /read 3")]


async def test_continue_is_said_only_to_a_body_that_is_wanted(listen: Listen) -> None:
    async with listen() as wire:
        asks = b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        reader, writer = await wire.connect()
        writer.write(POST + asks)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc" + LAST)
        assert parse(await reader.read()) == [(200, "POST /read 3"), (200, "GET /a 0")]
        assert await wire.talk(b"POST /a HTTP/1.1\r\n" + HOST + asks) == [(200, "POST /a 0")]


@pytest.mark.parametrize(
    "data",
    [
        GET + b"X: " + b"a" * MAX_HEAD_BYTES,
        GET + b"X: a\r\n" * (MAX_HEAD_BYTES // 6 + 1),
        b"GET /" + b"a" * (MAX_HEAD_BYTES + 1),
        b"\r\n" * (MAX_HEAD_BYTES // 2 + 1),
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + b"X: a\r\n" * (MAX_HEAD_BYTES // 3),
    ],
    ids=["a long field", "many fields", "a long target", "empty lines", "a long trailer"],
)
async def test_endless_headers_are_cut_off(listen: Listen, data: bytes) -> None:
    async with listen() as wire:
        reader, writer = await wire.connect()
        for start in range(0, len(data), 16_384):  # a head that comes in one piece is in memory already, and is taken
            writer.write(data[start : start + 16_384])
            await writer.drain()
            await asyncio.sleep(0.001)
        assert parse(await asyncio.wait_for(reader.read(), 5)) == [(431, "head-too-large")]


async def test_a_head_in_time_is_refused_by_the_next_sweep_after_what_was_owed(listen: Listen) -> None:
    async with listen(header_timeout_s=5) as wire:
        reader, writer = await wire.connect()
        writer.write(GET + b"\r\n" + GET)
        await reader.readuntil(b"GET /a 0\n")
        wire.sweep(4.9)
        assert wire.state.connections
        wire.sweep(5.1)
        assert parse(await asyncio.wait_for(reader.read(), 5)) == [(408, "slow-request")]


async def test_connections_that_say_nothing_are_closed(listen: Listen) -> None:
    async with listen(header_timeout_s=5) as wire:
        silent, idle = await wire.connect(), await wire.connect()
        idle[1].write(GET + b"\r\n")
        await idle[0].readuntil(b"GET /a 0\n")
        wire.sweep(5.1)
        assert await asyncio.wait_for(silent[0].read(), 5) == b""
        assert len(wire.state.connections) == 1  # the other has the longer time between requests
        wire.sweep(76)
        assert await asyncio.wait_for(idle[0].read(), 5) == b""


async def test_a_body_that_nobody_times_is_given_up(listen: Listen) -> None:
    async with listen(header_timeout_s=1, body_timeout_s=2) as wire:
        reader, writer = await wire.connect()
        writer.write(POST + b"Content-Length: 3\r\n\r\na")
        await until(lambda: bool(wire.scopes))
        wire.sweep(4.9)
        assert not wire.left
        wire.sweep(5.1)
        assert parse(await asyncio.wait_for(reader.read(), 5)) == [(408, "slow-request")]
        await until(lambda: wire.left == ["/read"])


async def test_work_in_hand_has_no_deadline_here(listen: Listen) -> None:
    async with listen() as wire:
        reader, writer = await wire.connect()
        writer.write(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
        await until(lambda: bool(wire.scopes))
        wire.sweep(1000)
        wire.go.set()
        assert parse(await asyncio.wait_for(reader.read(), 5)) == [(200, "GET /hold 0"), (200, "GET /a 0")]


async def test_a_body_that_is_not_read_is_dropped_and_the_answer_is_heard(listen: Listen) -> None:
    async with listen() as wire:
        reader, writer = await wire.connect()
        writer.write(b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 20000000\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" in head
        for _ in range(200):  # all of it can still be sent
            writer.write(b"0" * 100_000)
            await writer.drain()
        assert await asyncio.wait_for(reader.read(), 5) == b"POST /a 0\n"
        (connection,) = wire.state.connections
        assert len(connection.cycle.body) < 1_000_000
        wire.sweep(LINGER_S + 1)
        await until(lambda: not wire.state.connections)


async def test_what_is_sent_ahead_waits_outside_and_only_so_many_may(listen: Listen) -> None:
    async with listen() as wire:
        _, writer = await wire.connect()
        writer.write(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n" + (GET + b"\r\n") * 10)
        await until(lambda: bool(wire.scopes))
        (connection,) = wire.state.connections
        await until(lambda: connection.flow.read_paused)
        connection.flow.resume_reading()  # as a body that is read does
        assert connection.flow.read_paused
        wire.go.set()
        await until(lambda: len(wire.scopes) == 11)
        assert not connection.flow.read_paused
        answers = await wire.talk((GET + b"\r\n") * (MAX_PARKED + 50))
        assert answers == [(200, "GET /a 0")] * (MAX_PARKED + 1) + [(429, "overloaded")]


async def test_a_client_that_has_said_all_still_gets_its_answers(listen: Listen) -> None:
    async with listen() as wire:
        wire.go.set()
        data = b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n" + (GET + b"\r\n") * 3
        assert await wire.talk(data, half_close=True) == [(200, "GET /hold 0"), *[(200, "GET /a 0")] * 3]
        assert await wire.talk(POST + b"Content-Length: 3\r\n\r\na", half_close=True) == []
        assert wire.left == ["/read"]
        assert await wire.talk(GET, half_close=True) == []


async def test_a_client_that_reads_no_answers_loses_its_connection(listen: Listen) -> None:
    async with listen(body_timeout_s=2) as wire:
        _, writer = await wire.connect()
        writer.write(GET + b"\r\n")
        await until(lambda: bool(wire.scopes))
        (connection,) = wire.state.connections
        connection.pause_writing()  # as the transport does when too much is not taken
        for after_s in (0, 1.9):
            wire.sweep(after_s)
            assert not connection.transport.is_closing()
        wire.sweep(2.1)
        assert connection.transport.is_closing()


async def test_connections_beyond_the_limit_are_dropped_and_others_stay(listen: Listen) -> None:
    async with listen(max_connections=2) as wire:
        kept = [await wire.connect() for _ in range(2)]
        await until(lambda: len(wire.state.connections) == 2)
        dropped, writer = await wire.connect()
        assert await asyncio.wait_for(dropped.read(), 5) == b""
        for reader, writer in kept:
            writer.write(LAST)
            assert parse(await reader.read()) == [(200, "GET /a 0")]


async def test_shutdown_closes_idle_connections_and_the_others_after_their_answers(listen: Listen) -> None:
    async with listen() as wire:
        idle, busy, sending = [await wire.connect() for _ in range(3)]
        await until(lambda: len(wire.state.connections) == 3)
        busy[1].write(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n")
        sending[1].write(POST + b"Content-Length: 3\r\n\r\na")
        await until(lambda: len(wire.scopes) == 2)
        for connection in list(wire.state.connections):
            connection.shutdown()
        assert await asyncio.wait_for(idle[0].read(), 5) == b""
        wire.go.set()
        sending[1].write(b"bc")
        answers = [await asyncio.wait_for(reader.read(), 5) for reader, _ in (busy, sending)]
        assert [parse(answer) for answer in answers] == [[(200, "GET /hold 0")], [(200, "POST /read 3")]]
        assert all(b"connection: close" in answer for answer in answers)


async def test_a_reset_connection_ends_its_requests_without_a_word(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    async with listen() as wire:
        _, writer = await wire.connect()
        writer.write(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n" + (GET + b"\r\n") * 10)
        await until(lambda: bool(wire.scopes))
        writer.transport.abort()
        wire.go.set()
        await until(lambda: not wire.state.connections and not wire.state.tasks)
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
