"""Who waits together is inferred together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from system.model.transform import Pixels
from system.serving.batcher import Batcher, Probabilities


class Recording:
    """Answers each image with its first pixel; notes the size and the thread of every call."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, images: Pixels, /) -> Probabilities:
        self.gate.wait(5)
        self.sizes.append(len(images))
        self.threads.add(threading.current_thread().name)
        if (images == 255).any():
            raise RuntimeError("this batch is lost")
        return images[:, 0, 0, :1].astype(np.float32)


def image(value: int, count: int = 1) -> Pixels:
    return np.full((count, 2, 2, 3), value, np.uint8)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_each_request_gets_its_own_part_of_a_batch(*, in_thread: bool) -> None:
    engine = Recording()
    batcher = Batcher(engine, most_images=8, in_thread=in_thread)
    found = await asyncio.gather(*(batcher.infer(image(value)) for value in range(20)))
    assert [float(part[0, 0]) for part in found] == list(range(20))
    assert sum(engine.sizes) == 20
    assert max(engine.sizes) == 8
    assert ("MainThread" in engine.threads) is not in_thread


async def test_what_queues_while_a_batch_runs_is_the_next_one() -> None:
    engine = Recording()
    engine.gate.clear()
    batcher = Batcher(engine, most_images=8, in_thread=True)
    first = asyncio.create_task(batcher.infer(image(1)))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(batcher.infer(image(value))) for value in (2, 3, 4)]
    await asyncio.sleep(0.01)
    engine.gate.set()
    await asyncio.gather(first, *others)
    assert engine.sizes == [1, 3]


async def test_without_batching_nobody_shares_and_nothing_is_split() -> None:
    engine = Recording()
    batcher = Batcher(engine, most_images=1, in_thread=False)
    found = await asyncio.gather(batcher.infer(image(1)), batcher.infer(image(2, count=5)), batcher.infer(image(3)))
    assert engine.sizes == [1, 5, 1]
    assert [len(part) for part in found] == [1, 5, 1]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_failure_reaches_those_of_its_batch_and_nobody_else(*, in_thread: bool) -> None:
    batcher = Batcher(Recording(), most_images=1, in_thread=in_thread)
    good, bad, after = await asyncio.gather(
        batcher.infer(image(7)), batcher.infer(image(255)), batcher.infer(image(8)), return_exceptions=True
    )
    assert isinstance(bad, RuntimeError)
    assert isinstance(good, np.ndarray)
    assert isinstance(after, np.ndarray)
    assert (float(good[0, 0]), float(after[0, 0])) == (7, 8)


async def test_a_request_that_gave_up_holds_up_nobody() -> None:
    engine = Recording()
    engine.gate.clear()
    batcher = Batcher(engine, most_images=8, in_thread=True)
    gone = asyncio.create_task(batcher.infer(image(1)))
    await asyncio.sleep(0.01)
    gone.cancel()
    stays = asyncio.create_task(batcher.infer(image(2)))
    engine.gate.set()
    assert float((await stays)[0, 0]) == 2
    assert gone.cancelled() or gone.cancelling()
