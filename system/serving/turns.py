"""Whose turn it is: few requests are worked on at once, some wait for their turn, and who comes then is refused at once.

Inference runs in the event loop, so the queue of a busy process would be the loop's own list of ready tasks: one pass through a
long list takes long, and nobody who arrives meanwhile is even seen. Here the others wait in a queue of their own, of which each
pass takes two, so that every pass sees who arrived, and refuses within milliseconds whom it cannot take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from system.errors import Overloaded

_PER_PASS = 2  # with one, the pass itself would be a noticeable part of the work
_FEW = 4  # times `most_active` in flight run in one pass of milliseconds, and are spared the wake-up that a turn costs


class Turns:
    """An asynchronous context: inside it, it is this request's turn.

    Attributes:
        in_flight: how many requests of this process are begun and unfinished, whatever they wait for; the server sets it.
    """

    def __init__(self, *, most_active: int, most_waiting: int) -> None:
        self.in_flight: Callable[[], int] = lambda: 0
        self._most_active = most_active
        self._most_waiting = most_waiting
        self._active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._handing_on = False

    def refuse_if_full(self) -> None:
        """Look before anything is read.

        Raises:
            Overloaded: as many wait as may.
        """
        if len(self._waiting) >= self._most_waiting:
            raise Overloaded(f"{len(self._waiting)} requests wait for their turn, as many as may; try again later")

    async def __aenter__(self) -> None:
        if self._active < self._most_active and not self._waiting and self.in_flight() <= _FEW * self._most_active:
            self._active += 1
            return
        self.refuse_if_full()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_on_soon()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given and is not taken
                self._leave()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self._active -= 1
        if self._waiting:
            self._hand_on_soon()

    def _hand_on_soon(self) -> None:
        """In the loop's next pass: between two passes the sockets are read."""
        if not self._handing_on:
            self._handing_on = True
            asyncio.get_running_loop().call_soon(self._hand_on)

    def _hand_on(self) -> None:
        self._handing_on = False
        given = 0
        while self._waiting and self._active < self._most_active:
            if given == _PER_PASS:
                self._hand_on_soon()
                break
            turn = self._waiting.popleft()
            if not turn.done():  # else its request gave up
                self._active += 1
                given += 1
                turn.set_result(None)
