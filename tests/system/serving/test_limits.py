from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from system.config import ServeSettings
from system.errors import Overloaded, PayloadTooLarge, SlowRequest
from system.serving.limits import Reader

Make = Callable[..., Reader]


@pytest.fixture
def make(place: Any) -> Make:
    def reader(**changes: Any) -> Reader:
        settings: ServeSettings = place.settings(**{"max_body_bytes": 10, **changes})
        return Reader(settings)

    return reader


class Sender:
    """Hands out messages, some of them only when they are let go, and counts how many were asked for."""

    def __init__(self, *chunks: bytes, ends: bool = True, waits: bool = False) -> None:
        last = len(chunks) - 1
        self.messages: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": index < last or not ends} for index, chunk in enumerate(chunks)
        ]
        if not ends:
            self.messages.append({"type": "http.disconnect"})
        self.asked = 0
        self.go = asyncio.Event()
        if not waits:
            self.go.set()

    async def receive(self) -> Message:
        self.asked += 1
        await self.go.wait()
        return self.messages[self.asked - 1]


async def begin(work: Awaitable[bytes]) -> asyncio.Task[bytes]:
    """The reading, begun, and waiting for its sender."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    return task


CHUNKS = [(b"0123456789",), (b"01234", b"", b"56789"), (b"0123456789", b""), (b"", b"0123456789")]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("chunks", CHUNKS)
async def test_a_body_of_exactly_the_limit_is_taken(make: Make, chunks: tuple[bytes, ...], *, waits: bool) -> None:
    sender = Sender(*chunks, waits=waits)
    task = await begin(make().read_body(sender.receive, None))
    sender.go.set()
    assert await task == b"0123456789"
    assert sender.asked == len(chunks)


@pytest.mark.parametrize("waits", [False, True])
async def test_reading_stops_with_the_chunk_that_passes_the_limit(make: Make, *, waits: bool) -> None:
    sender = Sender(b"0" * 6, b"0" * 5, b"0" * 5, waits=waits)
    task = await begin(make().read_body(sender.receive, b"3"))
    sender.go.set()
    with pytest.raises(PayloadTooLarge, match="longer than 10 bytes"):
        await task
    assert sender.asked == 2


async def test_a_declared_length_is_refused_unread_and_not_believed_when_small(make: Make) -> None:
    sender = Sender(b"0" * 11)
    with pytest.raises(PayloadTooLarge):
        await make().read_body(sender.receive, b"11")
    assert sender.asked == 0
    with pytest.raises(PayloadTooLarge):
        await make().read_body(sender.receive, b"3")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("chunks", [(), (b"0",)])
async def test_a_client_that_leaves_is_told_apart(make: Make, chunks: tuple[bytes, ...], *, waits: bool) -> None:
    sender = Sender(*chunks, ends=False, waits=waits)
    task = await begin(make().read_body(sender.receive, None))
    sender.go.set()
    with pytest.raises(ClientDisconnect):
        await task


@pytest.mark.parametrize("chunks", [(), (b"012",)])
async def test_a_body_that_does_not_end_in_time_is_given_up(make: Make, chunks: tuple[bytes, ...]) -> None:
    reader = make(body_timeout_s=0.01, max_reading=1)
    sender = Sender(*chunks, ends=False, waits=True)
    with pytest.raises(SlowRequest, match=r"0 bytes of the body arrived within 0\.01 s"):
        await reader.read_body(sender.receive, None)
    assert await reader.read_body(Sender(b"0", b"1").receive, None) == b"01"  # its place is free again


async def test_the_deadline_is_for_the_whole_body_not_for_each_piece(make: Make) -> None:
    async def drip() -> Message:
        await asyncio.sleep(0.002)
        return {"type": "http.request", "body": b"0", "more_body": True}

    with pytest.raises(SlowRequest):
        await make(body_timeout_s=0.02, max_body_bytes=10**6).read_body(drip, None)


async def test_only_so_many_bodies_may_be_arriving(make: Make) -> None:
    reader = make(max_reading=2)
    senders = [Sender(b"0", b"1", waits=True) for _ in range(3)]
    first, second = [await begin(reader.read_body(sender.receive, None)) for sender in senders[:2]]
    with pytest.raises(Overloaded, match="2 bodies are arriving, 2 may be"):
        await reader.read_body(senders[2].receive, None)
    assert await reader.read_body(Sender(b"01").receive, None) == b"01"  # one that is here does not count
    first.cancel()  # as a client's leaving does
    with pytest.raises(asyncio.CancelledError):
        await first
    third = await begin(reader.read_body(Sender(b"0", b"1").receive, None))
    senders[1].go.set()
    assert [await second, await third] == [b"01", b"01"]


async def test_only_so_much_may_be_held_of_bodies_that_are_arriving(make: Make) -> None:
    reader = make(max_reading_bytes=12)
    held = Sender(b"0" * 8, b"0", waits=True)
    held.go.set()
    task = await begin(reader.read_body(_stopping_after_one(held), None))
    with pytest.raises(Overloaded, match="hold 13 bytes"):
        await reader.read_body(Sender(b"0" * 5, b"0").receive, None)
    held.go.set()
    assert await task == b"0" * 9
    assert await reader.read_body(Sender(b"0" * 8, b"0").receive, None) == b"0" * 9  # nothing stays on the account


def _stopping_after_one(sender: Sender) -> Any:
    async def receive() -> Message:
        message = await sender.receive()
        sender.go.clear()
        return message

    return receive
