from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import struct
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import nullcontext

import pytest

from sre.targets.local.relay import Cable, Counts, Relay
from tests.sre.targets.local.ports import free_port

PATIENCE_S = 20.0
Serve = Callable[[Callable[[StreamReader, StreamWriter], Awaitable[None]]], Awaitable[asyncio.Server]]


@pytest.fixture
def cable() -> Cable:
    return Cable(name="postgres-1", member="1", listen=free_port(), to=free_port())


@pytest.fixture
async def relay(cable: Cable) -> AsyncIterator[Relay]:
    """Inside the process of the test, so that what it holds can be seen; nobody is a member."""
    with Relay([cable], {"1": ()}) as one:
        yield one


@pytest.fixture
async def serve(cable: Cable, relay: Relay) -> AsyncIterator[Serve]:
    begun: list[asyncio.Server] = []

    async def make(answer: Callable[[StreamReader, StreamWriter], Awaitable[None]]) -> asyncio.Server:
        begun.append(await asyncio.start_server(answer, "127.0.0.1", cable.to))
        relay.follow()
        return begun[-1]

    yield make
    for server in begun:
        server.close()


@pytest.fixture
def client(cable: Cable) -> Iterator[Callable[[], socket.socket]]:
    """A plain socket connected to the cable; the kernel connects it whether or not the relay has had its turn."""
    opened: list[socket.socket] = []

    def make() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", cable.listen)))
        opened[-1].setblocking(False)
        return opened[-1]

    yield make
    for end in opened:
        end.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


async def received(end: socket.socket, limit: int = 1 << 20) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, limit), PATIENCE_S)


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def test_an_end_in_one_direction_leaves_the_other_open(serve: Serve, client: Callable[[], socket.socket]) -> None:
    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        request = await reader.read()
        writer.write(b"answer to " + request)
        writer.close()

    await serve(answer)
    end = client()
    end.send(b"question")
    end.shutdown(socket.SHUT_WR)
    assert await received(end) == b"answer to question"
    assert await received(end) == b""


async def test_a_server_may_end_first_and_still_listen(serve: Serve, relay: Relay, client: Callable[[], socket.socket]) -> None:
    heard = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write_eof()
        heard.append(await reader.read())
        writer.close()

    await serve(answer)
    end = client()
    assert await received(end) == b""
    end.send(b"still here")
    end.shutdown(socket.SHUT_WR)
    await until(lambda: heard == [b"still here"], "not heard")
    await until(lambda: relay.counts() == Counts(0, 0, 0), "connections are left")


async def test_what_a_slow_server_does_not_take_is_not_read_either(
    serve: Serve, relay: Relay, client: Callable[[], socket.socket]
) -> None:
    go, heard = asyncio.Event(), bytearray()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        await go.wait()
        while data := await reader.read(1 << 20):
            heard.extend(data)
        writer.close()

    await serve(answer)
    end, block, sent, quiet = client(), random.Random(3).randbytes(1 << 16), 0, 0
    while quiet < 20 and sent < 100_000_000:
        try:
            sent += end.send(block[sent % len(block) :])
            quiet = 0
        except BlockingIOError:
            quiet += 1
            await asyncio.sleep(0.01)
    assert sent < 50_000_000
    assert sum(len(way.rest) for one in relay.connections for way in one.ways) <= 256 * 1024
    go.set()
    end.shutdown(socket.SHUT_WR)
    assert await received(end) == b""
    assert bytes(heard) == (block * (sent // len(block) + 1))[:sent]


@pytest.mark.parametrize("reset", [False, True])
async def test_clients_are_refused_exactly_while_the_server_would_refuse_them(
    serve: Serve, relay: Relay, client: Callable[[], socket.socket], *, reset: bool
) -> None:
    relay.follow()
    with pytest.raises(ConnectionRefusedError):
        client()
    writers = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writers.append(writer)
        await echo(reader, writer)

    server = await serve(answer)
    end = client()
    end.send(b"hello")
    assert await received(end) == b"hello"
    # It dies: nothing listens, and all its connections end. Whoever hears of it may come back at once.
    server.close()
    if reset:
        writers[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writers[0].transport.abort()
    with pytest.raises(ConnectionResetError) if reset else nullcontext():
        assert await received(end) == b""
    with pytest.raises(ConnectionRefusedError):
        client()


async def test_one_that_comes_before_the_death_is_known_is_reset(
    serve: Serve, relay: Relay, client: Callable[[], socket.socket]
) -> None:
    (await serve(echo)).close()
    end = client()
    with pytest.raises(ConnectionResetError):
        await received(end)
    with pytest.raises(ConnectionRefusedError):
        client()
    assert relay.counts() == Counts(0, 0, 0)


async def test_the_last_words_of_a_server_that_resets_arrive(
    relay: Relay, cable: Cable, client: Callable[[], socket.socket]
) -> None:
    with socket.create_server(("127.0.0.1", cable.to)) as server:
        relay.follow()
        end = client()
        end.send(b"never read")
        await until(lambda: any(one.ways for one in relay.connections), "not connected")
        behind, _ = await asyncio.to_thread(server.accept)
        await until(lambda: len(behind.recv(100, socket.MSG_PEEK)) == 10, "nothing arrived")
        # The relay has no turn between these: it learns from the client's words that the server takes no more.
        end.send(b"more")
        behind.send(b"terminating")
        behind.close()
        assert await received(end) == b"terminating"
        with pytest.raises(ConnectionResetError):
            await received(end)


async def test_no_side_waits_to_fill_a_segment(serve: Serve, relay: Relay, client: Callable[[], socket.socket]) -> None:
    await serve(echo)
    end = client()
    end.send(b"x")
    assert await received(end) == b"x"
    (one,) = relay.connections
    assert one.server is not None
    assert [side.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for side in (one.client, one.server)] == [1, 1]


async def test_a_client_that_resets_is_reset_behind_too(serve: Serve, relay: Relay, client: Callable[[], socket.socket]) -> None:
    ended = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        try:
            await reader.read()
        except ConnectionResetError as error:
            ended.append(error)
        writer.close()

    await serve(answer)
    end = client()
    end.send(b"x")
    assert await received(end) == b"x"
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
    await until(lambda: len(ended) == 1, "the server heard of no reset")
    assert relay.counts() == Counts(0, 0, 0)


async def test_without_a_file_for_it_a_client_waits(serve: Serve, client: Callable[[], socket.socket]) -> None:
    await serve(echo)
    end = client()
    end.send(b"hello")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        await asyncio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            end.recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await received(end) == b"hello"


async def test_a_connection_on_its_way_to_a_full_server_is_held_and_arrives_later(
    relay: Relay, cable: Cable, client: Callable[[], socket.socket]
) -> None:
    with socket.create_server(("127.0.0.1", cable.to), backlog=0) as server, socket.create_connection(("127.0.0.1", cable.to)):
        relay.follow()
        end = client()
        end.send(b"hello")
        await until(lambda: any(one.server for one in relay.connections), "not on its way")
        relay.cut(("1",))
        assert relay.counts() == Counts(1, 1, 5)
        first, _ = server.accept()
        first.close()
        server.settimeout(PATIENCE_S)
        second, _ = await asyncio.to_thread(server.accept)
        with second:
            second.setblocking(False)
            await asyncio.sleep(0.05)
            with pytest.raises(BlockingIOError):
                second.recv(1)
            assert relay.counts() == Counts(1, 1, 5)
            relay.cut(())
            assert await received(second) == b"hello"
