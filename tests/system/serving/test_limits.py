from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from system.errors import PayloadTooLarge
from system.serving.limits import read_body


class Sender:
    """Hands out messages, and counts how many were asked for."""

    def __init__(self, *chunks: bytes, ends: bool = True) -> None:
        last = len(chunks) - 1
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": index < last or not ends} for index, chunk in enumerate(chunks)
        ]
        if not ends:
            self.messages.append({"type": "http.disconnect"})
        self.asked = 0

    @property
    def receive(self) -> Receive:
        async def give() -> dict[str, Any]:
            self.asked += 1
            return self.messages[self.asked - 1]

        return give


@pytest.mark.parametrize("chunks", [(b"0123456789",), (b"01234", b"", b"56789"), (b"0123456789", b"")])
async def test_a_body_of_exactly_the_limit_is_taken(chunks: tuple[bytes, ...]) -> None:
    assert await read_body(Sender(*chunks).receive, declared=None, limit_bytes=10) == b"0123456789"


async def test_reading_stops_with_the_chunk_that_passes_the_limit() -> None:
    sender = Sender(b"0" * 6, b"0" * 5, b"0" * 5)
    with pytest.raises(PayloadTooLarge, match="longer than 10 bytes"):
        await read_body(sender.receive, declared=None, limit_bytes=10)
    assert sender.asked == 2


async def test_a_declared_length_is_refused_unread_and_not_believed_when_small() -> None:
    sender = Sender(b"0" * 11)
    with pytest.raises(PayloadTooLarge):
        await read_body(sender.receive, declared="11", limit_bytes=10)
    assert sender.asked == 0
    with pytest.raises(PayloadTooLarge):
        await read_body(sender.receive, declared="3", limit_bytes=10)


async def test_a_client_that_leaves_is_told_apart() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(Sender(b"0", ends=False).receive, declared=None, limit_bytes=10)
