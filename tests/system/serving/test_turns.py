"""Few work, some wait in their order, the rest is refused at once; and no turn is ever lost."""

from __future__ import annotations

import asyncio

import pytest

from system.errors import Overloaded
from system.serving import turns
from system.serving.turns import Turns


async def work(turns: Turns, done: list[int], number: int, go: asyncio.Event | None = None) -> None:
    async with turns:
        if go is not None:
            await go.wait()
        done.append(number)


async def test_a_lone_request_has_its_turn_without_waiting() -> None:
    queue = Turns(most_active=1, most_waiting=1)
    done: list[int] = []
    coroutine = work(queue, done, 1)
    with pytest.raises(StopIteration):
        coroutine.send(None)  # it never yields to the loop
    assert done == [1]


async def test_who_is_too_many_is_refused_and_those_who_wait_come_in_order() -> None:
    queue, go, done = Turns(most_active=2, most_waiting=3), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(work(queue, done, number, go)) for number in range(8)]
    await asyncio.sleep(0.01)
    refused = [task for task in tasks if task.done()]
    assert [type(task.exception()) for task in refused] == [Overloaded] * 3
    with pytest.raises(Overloaded, match="3 requests wait for their turn, as many as may"):
        queue.refuse_if_full()
    go.set()
    await asyncio.gather(*(task for task in tasks if task not in refused))
    assert done == [0, 1, 2, 3, 4]
    queue.refuse_if_full()


async def test_a_pass_of_the_loop_works_on_few_so_that_arrivals_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sabotage included: without either limit the same requests run in longer passes."""

    async def longest_pass(most_active: int) -> int:
        queue, done, passes = Turns(most_active=most_active, most_waiting=1000), list[int](), list[int]()
        tasks = [asyncio.create_task(work(queue, done, number)) for number in range(100)]
        queue.in_flight = lambda: sum(not task.done() for task in tasks)
        while len(done) < 100:
            before = len(done)
            await asyncio.sleep(0)
            passes.append(len(done) - before)
        await asyncio.gather(*tasks)
        return max(passes)

    assert await longest_pass(4) == 2
    assert await longest_pass(1000) == 100
    monkeypatch.setattr(turns, "_PER_PASS", 1000)
    assert await longest_pass(4) == 4


async def test_a_request_that_gives_up_loses_nobody_a_turn() -> None:
    queue, go, done = Turns(most_active=1, most_waiting=10), asyncio.Event(), list[int]()
    first = asyncio.create_task(work(queue, done, 1, go))
    await asyncio.sleep(0)
    waits, last = [asyncio.create_task(work(queue, done, number)) for number in (2, 3)]
    await asyncio.sleep(0.001)
    waits.cancel()
    go.set()
    await asyncio.gather(first, last)
    given = asyncio.create_task(work(queue, done, 4, asyncio.Event()))
    await asyncio.sleep(0.001)
    given.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given
    await work(queue, done, 5)
    assert done == [1, 3, 5]


async def test_a_turn_given_in_the_moment_of_giving_up_goes_to_the_next() -> None:
    queue, done = Turns(most_active=1, most_waiting=10), list[int]()
    async with queue:
        waits = asyncio.create_task(work(queue, done, 1))
        await asyncio.sleep(0.001)
    queue._hand_on()  # the turn is given; its request does not run before the loop's next pass
    waits.cancel()
    await asyncio.wait_for(work(queue, done, 2), 5)
    assert done == [2]


async def test_a_failure_ends_a_turn_too() -> None:
    queue = Turns(most_active=1, most_waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with queue:
                raise ZeroDivisionError
