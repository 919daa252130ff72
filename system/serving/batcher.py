"""Inference for requests that wait together, without a timer: what queued while the last batch ran is the next one.

A quick model runs in the event loop itself: the batch is taken once every request that is already there has queued its images.
A slow one runs in one thread, so that the loop goes on answering health checks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from system.model.engines import Engine
from system.model.transform import Pixels

Probabilities = npt.NDArray[np.float32]
Waiting = tuple[Pixels, "asyncio.Future[Probabilities]"]


class Batcher:
    """Takes images of many requests, and gives each its own part of the answer."""

    def __init__(self, engine: Engine, *, most_images: int, in_thread: bool) -> None:
        """With `most_images` 1 every request is inferred by itself; a request with more images than that is never split."""
        self._engine = engine
        self._most_images = most_images
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference") if in_thread else None
        self._waiting: deque[Waiting] = deque()
        self._busy = False

    async def infer(self, images: Pixels) -> Probabilities:
        """Probabilities, float32 (n, classes), of images, uint8 (n, side, side, 3)."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Probabilities] = loop.create_future()
        self._waiting.append((images, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next, loop)
        return await future

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        images = batch[0][0] if len(batch) == 1 else np.concatenate([images for images, _ in batch])
        if self._executor is None:
            try:
                found: Probabilities | BaseException = self._engine(images)
            except Exception as error:  # noqa: BLE001 - it belongs to the requests of this batch
                found = error
            self._answer(batch, found)
            loop.call_soon(self._next, loop)
        else:
            running = loop.run_in_executor(self._executor, self._engine, images)

            def done(found: asyncio.Future[Probabilities]) -> None:
                self._answer(batch, found.exception() or found.result())
                self._next(loop)

            running.add_done_callback(done)

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        images = 0
        while self._waiting and (not batch or images + len(self._waiting[0][0]) <= self._most_images):
            images += len(self._waiting[0][0])
            batch.append(self._waiting.popleft())
        return batch

    @staticmethod
    def _answer(batch: list[Waiting], found: Probabilities | BaseException) -> None:
        start = 0
        for images, future in batch:
            end = start + len(images)
            if not future.done():  # its request gave up: the deadline passed
                if isinstance(found, BaseException):
                    future.set_exception(found)
                else:
                    future.set_result(found[start:end])
            start = end
