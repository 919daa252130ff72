from __future__ import annotations

import asyncio
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.bench.figures import in_ms
from tests.bench.openloop import Load, request_bytes, whole_answer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
REQUEST = request_bytes("/predict", {"X-API-Key": "k"}, b"body")


@asynccontextmanager
async def server(answer: Callable[[int, Writer], Awaitable[None]]) -> AsyncIterator[tuple[str, int]]:
    """A real server on loopback; `answer` gets the number of the request."""
    count = 0
    writers: set[Writer] = set()

    async def serve(reader: Reader, writer: Writer) -> None:
        nonlocal count
        writers.add(writer)
        try:
            while not writer.is_closing():
                await reader.readexactly(len(REQUEST))
                count += 1
                await answer(count, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = listening.sockets[0].getsockname()
        yield host, port
    finally:
        listening.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


async def says_ok(_number: int, writer: Writer) -> None:
    writer.write(OK)


async def test_an_open_loop_sends_what_was_planned_and_counts_every_answer() -> None:
    async with server(says_ok) as address:
        found = await Load(REQUEST, address, rate=400, seconds=0.5, connections=4).run(seed=1)
    assert 120 < found["planned"] < 290  # Poisson with mean 200: six standard deviations
    assert found["statuses"] == {"200": found["planned"]}
    assert (found["hung"], found["refused_ms"]) == (0, {})
    assert set(found["accepted_ms"]) == {"p50", "p95", "p99", "max"}


async def test_refusals_that_close_the_connection_are_counted_apart_and_reconnected() -> None:
    async def alternates(number: int, writer: Writer) -> None:
        writer.write(BUSY if number % 2 else OK)
        if number % 2:
            writer.close()

    async with server(alternates) as address:
        found = await Load(REQUEST, address, rate=200, seconds=0.5, connections=3).run(seed=2)
    assert set(found["statuses"]) == {"200", "503"}
    assert sum(found["statuses"].values()) == found["planned"]
    assert found["refused_ms"]


async def test_waiting_for_a_free_connection_is_part_of_the_latency() -> None:
    async def slow(_number: int, writer: Writer) -> None:
        await asyncio.sleep(0.02)
        writer.write(OK)

    async with server(slow) as address:
        found = await Load(REQUEST, address, rate=200, seconds=0.3, connections=1).run(seed=3)
    # one connection answers 50/s of 200/s: the last of them waited for most of those before it
    assert found["accepted_ms"]["max"] > 300


async def test_a_connection_that_breaks_in_the_middle_is_no_answer() -> None:
    async def breaks(_number: int, writer: Writer) -> None:
        writer.write(OK[:-1])
        writer.close()

    async with server(breaks) as address:
        found = await Load(REQUEST, address, rate=100, seconds=0.2, connections=2).run(seed=4)
    assert set(found["statuses"]) == {"0"}
    assert found["goodput"] == 0


async def test_a_server_that_never_answers_leaves_hung_requests() -> None:
    async def silent(_number: int, _writer: Writer) -> None:
        return

    async with server(silent) as address:
        load = Load(REQUEST, address, rate=100, seconds=0.2, connections=2)
        load.grace_s = 0.1
        found = await load.run(seed=5)
    assert found["hung"] == found["planned"] > 0
    assert found["unsent"] == found["planned"] - 2  # each connection took one and waits for its answer


async def test_with_rate_zero_every_connection_sends_again_at_once() -> None:
    async with server(says_ok) as address:
        found = await Load(REQUEST, address, rate=0, seconds=0.2, connections=2).run(seed=6)
    assert found["statuses"] == {"200": found["planned"]}
    assert found["goodput"] > 0


def test_an_answer_is_whole_with_its_last_byte() -> None:
    assert whole_answer(bytearray(OK)) == (200, False)
    assert whole_answer(bytearray(BUSY)) == (503, True)
    assert all(whole_answer(bytearray(OK[:length])) is None for length in range(len(OK)))


def test_quantiles_are_by_nearest_rank() -> None:
    assert in_ms([number / 1000 for number in range(1, 101)]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert in_ms([]) == {}
