"""The open-loop generator: requests leave when a Poisson process says so, however slow the server is.

A program of its own (`python -m tests.bench.openloop ...`, one JSON document on stdout), on raw sockets: a client library would
cost more than the server under test. Latency counts from the planned instant, the wait for a free connection included; refusals
(429 and 503) count from sending. With rate 0 it is a closed loop: every connection sends as soon as it has its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.bench.figures import in_ms

REFUSALS = (429, 503)
GRACE_S = 5.0
SETTLE_S = 1.0
_BROKEN = 0  # counted as this status: the connection ended before the answer was whole


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport
        self.planned = self.sent = 0.0
        self.busy = False
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.load.free(self)

    def send(self, planned: float) -> None:
        self.planned, self.sent, self.busy = planned, time.perf_counter(), True
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if (whole := whole_answer(self._received)) is None:
            return
        status, closes = whole
        self._received.clear()
        self.busy = False
        self.load.answered(self, status)
        if closes:
            self.transport.close()
        else:
            self.load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self.load.answered(self, _BROKEN)
        self.load.lost(self)


def whole_answer(received: bytearray) -> tuple[int, bool] | None:
    """Status of an HTTP/1.1 answer and whether it ends the connection; None while a part of it is missing."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    at = head.find(b"\r\ncontent-length:")
    length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    if len(received) < end + 4 + length:
        return None
    return int(head[9:12]), b"\r\nconnection: close" in head


class Load:
    """One run of the whole `request` against one address: `rate` a second for `seconds`, over some kept `connections`."""

    def __init__(self, request: bytes, address: tuple[str, int], rate: float, seconds: float, connections: int) -> None:
        self.request, self.address = request, address
        self.rate, self.seconds, self.connections = rate, seconds, connections
        self.statuses: Counter[int] = Counter()
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.lateness: list[float] = []
        self.planned = 0
        self.grace_s = GRACE_S
        self.settle_s = 0.0
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._ends = 0.0

    def free(self, connection: Connection) -> None:
        self._open.add(connection)
        now = time.perf_counter()
        if self._waiting:
            connection.send(self._waiting.popleft())
        elif not self.rate and now < self._ends:
            self.planned += 1
            connection.send(now)
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if time.perf_counter() < self._ends:
            task = asyncio.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def answered(self, connection: Connection, status: int) -> None:
        self.statuses[status] += 1
        now = time.perf_counter()
        if status == 200:
            self.accepted.append(now - connection.planned)
        elif status in REFUSALS:
            self.refused.append(now - connection.sent)

    async def run(self, seed: int) -> dict[str, Any]:
        """Send, wait for what is outstanding, and say what was seen."""
        await asyncio.gather(*(self._connect() for _ in range(self.connections)))
        await asyncio.sleep(self.settle_s)  # the kernel takes connections for the server before the server does
        cpu = time.process_time()
        begins = time.perf_counter()
        self._ends = begins + self.seconds
        if self.rate:
            await self._plan(begins, random.Random(seed))
        else:
            for connection in [self._idle.popleft() for _ in range(len(self._idle))]:
                self.free(connection)
            await asyncio.sleep(self.seconds)
        cpu = time.process_time() - cpu
        give_up = time.perf_counter() + self.grace_s
        while (self._waiting or any(item.busy for item in self._open)) and time.perf_counter() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        report = self._report(cpu, time.perf_counter() - begins)
        for connection in self._open.copy():
            connection.busy = False
            connection.transport.abort()
        return report

    async def _plan(self, begins: float, chance: random.Random) -> None:
        instant = begins
        while (instant := instant + chance.expovariate(self.rate)) < self._ends:
            while (now := time.perf_counter()) < instant:  # noqa: ASYNC110 - what is waited for is the time
                await asyncio.sleep(instant - now)
            self.lateness.append(now - instant)
            self.planned += 1
            if self._idle:
                self._idle.popleft().send(instant)
            else:
                self._waiting.append(instant)

    async def _connect(self) -> None:
        for _ in range(100):
            try:
                await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self.address)
                break
            except OSError:
                await asyncio.sleep(0.05)

    def _report(self, cpu: float, took: float) -> dict[str, Any]:
        return {
            "offered": self.rate, "planned": self.planned, "seconds": self.seconds, "took": took,
            "hung": self.planned - self.statuses.total(), "unsent": len(self._waiting),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "accepted_ms": in_ms(self.accepted), "refused_ms": in_ms(self.refused), "lateness_ms": in_ms(self.lateness),
            "goodput": len(self.accepted) / self.seconds, "generator_cores": cpu / self.seconds,
        }  # fmt: skip


def request_bytes(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def main() -> None:
    """Run once, print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path, help="JSON: port, path, headers, body (a file), rate, seconds, connections, seed")
    plan = json.loads(parser.parse_args().plan.read_text(encoding="utf-8"))
    request = request_bytes(plan["path"], plan["headers"], Path(plan["body"]).read_bytes())
    load = Load(request, ("127.0.0.1", plan["port"]), plan["rate"], plan["seconds"], plan["connections"])
    load.settle_s = SETTLE_S
    print(json.dumps(uvloop.run(load.run(plan["seed"]))))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
