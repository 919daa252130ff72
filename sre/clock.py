"""The one place where time is read, so that drills run on virtual time in tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from sre.errors import UsageError


class Clock(Protocol):
    """Monotonic seconds for durations, wall time for people and for queries by time."""

    def now(self) -> float:
        """Monotonic seconds. On the system clock comparable between processes of one machine."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`."""
        time.sleep(seconds)


def iso(wall: float) -> str:
    """`2026-01-01T12:00:00.000Z`: UTC, milliseconds, sortable as text."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> float:
    """Seconds since the epoch of an instant as people write it, `2026-01-01T12:00:00Z`.

    Raises:
        UsageError: for anything else, a time without its zone included.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise UsageError(f"time {text!r} is not understood; write it with its zone, as 2026-01-01T12:00:00Z")
    return read.timestamp()
