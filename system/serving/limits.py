"""How much of what is sent one process holds: the size of a body, its time, and how many are arriving."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from system.config import ServeSettings
from system.errors import Overloaded, PayloadTooLarge, SlowRequest


class Reader:
    """Reads the bodies of requests."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._max_body_bytes = settings.max_body_bytes
        self._reading = 0
        self._bytes = 0

    async def read_body(self, receive: Receive, declared: bytes | None) -> bytes:
        """The whole body. One that is already here costs neither a timer nor a counter.

        Args:
            receive: of the request.
            declared: its Content-Length, a number to the HTTP parser too; one that is too long is refused before a byte is read.

        Raises:
            PayloadTooLarge: the body is, or says it is, longer than the limit.
            SlowRequest: it did not arrive in time.
            Overloaded: too many bodies, or too much of them, are arriving.
            ClientDisconnect: the client left before its end.
        """
        if declared is not None and int(declared) > self._max_body_bytes:
            raise self._too_large()
        waiting = receive().__await__()
        try:
            first = next(waiting)
        except StopIteration as done:
            body, whole = self._chunk(done.value, 0)
            if whole:
                return body
            return await self._read_on(receive, body)
        return await self._read_on(receive, b"", _Begun(waiting, first))

    async def _read_on(self, receive: Receive, body: bytes, begun: _Begun | None = None) -> bytes:
        if self._reading >= self._settings.max_reading:
            raise Overloaded(f"{self._reading} bodies are arriving, {self._settings.max_reading} may be; try again later")
        chunks: list[bytes] = []
        size = 0
        whole = False
        self._reading += 1
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    chunks.append(body)
                    size += len(body)
                    self._bytes += len(body)
                    if whole:
                        break
                    if self._bytes > self._settings.max_reading_bytes:
                        raise Overloaded(f"bodies that are arriving hold {self._bytes} bytes already; try again later")
                    body, whole = self._chunk(await (begun or receive()), size)
                    begun = None
        except TimeoutError:
            limit_s = self._settings.body_timeout_s
            raise SlowRequest(f"{size} bytes of the body arrived within {limit_s:g} s, and not its end; send it faster") from None
        finally:
            self._reading -= 1
            self._bytes -= size
        return b"".join(chunks)

    def _chunk(self, message: Message, before: int) -> tuple[bytes, bool]:
        """The bytes of a message, `before` of which as many came, and whether they end the body."""
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message.get("body", b"")
        if before + len(body) > self._max_body_bytes:
            raise self._too_large()
        return body, not message.get("more_body", False)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is longer than {self._max_body_bytes} bytes; send a smaller image")


class _Begun:
    """Awaits what `waiting` began: it ran once, to see whether it has to wait, and it does, for `first`."""

    def __init__(self, waiting: Generator[Any, Any, Message], first: object) -> None:
        self._waiting = waiting
        self._first = first

    def __await__(self) -> Generator[Any, Any, Message]:
        try:
            yield self._first
        except BaseException as error:  # noqa: BLE001 - it is passed on: what waits may take its cancellation for an answer
            try:
                again = self._waiting.throw(error)
            except StopIteration as done:
                message: Message = done.value
                return message
            yield again
        return (yield from self._waiting)
