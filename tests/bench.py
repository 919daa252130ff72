"""Requests a second and CPU time a request of one replica, without the ingress: the figure that the next change must not worsen.

The machine is shared and noisy, so the CPU time of the serving process a request is the figure to compare, not the rate.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

import httpx
import psutil
import typer

from sre.config import Settings
from sre.targets.local import state, target

SECONDS = 5.0
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One round with some connections."""

    connections: int
    requests_per_second: float
    cpu_us_per_request: float


async def measure(url: str, key: str, body: bytes, process: psutil.Process, connections: int) -> Round:
    """Closed loop for some seconds."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {"X-API-Key": key, "Content-Type": "image/jpeg"}
    deadline = time.monotonic() + SECONDS
    before = sum(process.cpu_times()[:2])

    async with httpx.AsyncClient(base_url=url, limits=limits, headers=headers, trust_env=False) as client:

        async def user() -> int:
            count = 0
            while time.monotonic() < deadline:
                (await client.post("/predict", content=body)).raise_for_status()
                count += 1
            return count

        total = sum(await asyncio.gather(*(user() for _ in range(connections))))
    used = sum(process.cpu_times()[:2]) - before
    return Round(connections, total / SECONDS, used / total * 1e6)


def main() -> int:
    """Begin or join a system, measure its first replica, print one JSON document."""
    settings = Settings()
    system, begun = target.up(settings.home, settings.tools, say=lambda line: typer.echo(line, err=True))
    try:
        current = state.read(settings.home)
        if current is None:
            return 4
        name = system.layout.replicas[0]
        process = psutil.Process(int(current.services[name].process.partition("@")[0]))
        key = system.endpoints.api_key_file.read_text(encoding="utf-8").strip()
        body = next(system.endpoints.bodies.rglob("*.jpg")).read_bytes()
        rounds = [
            asyncio.run(measure(system.layout.url(name), key, body, process, connections))
            for _ in range(ROUNDS)
            for connections in (1, 16)
        ]
        found = {"schema": "ml.bench/1", "system": dict(system.describe()), "rounds": [asdict(item) for item in rounds]}
        typer.echo(json.dumps(found, indent=2))
    finally:
        if begun:
            target.down(settings.home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
