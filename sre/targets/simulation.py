"""What the memory target is made of: a clock that nobody waits for, replicas with a history, requests that meet them.

A replica's history says everything about it, so what becomes of a request is computed when somebody looks, all requests at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

INGRESS_PATIENCE_S = 2.0  # before the ingress asks another replica
REFUSED_S = 0.001  # a connection that nobody accepts
_BEGAN, _WALL = 1000.0, 1_767_268_800.0


class VirtualClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self._now = _BEGAN

    def now(self) -> float:
        """Monotonic seconds."""
        return self._now

    def wall(self) -> float:
        """Seconds since the Unix epoch; the simulation begins at noon of 2026-01-01."""
        return _WALL + self._now - _BEGAN

    def sleep(self, seconds: float) -> None:
        """Move on; the past cannot be reached."""
        self._now += max(0.0, seconds)


@dataclass(slots=True)
class _Life:
    """One process of a replica: monotonic s, and the spans in which it was frozen."""

    pid: int
    born: float
    ready: float
    died: float = math.inf
    frozen: list[tuple[float, float]] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"{self.pid}@{self.born:.3f}"

    def awake(self, at: Floats) -> npt.NDArray[np.bool_]:
        awake: npt.NDArray[np.bool_] = (at >= self.ready) & (at < self.died)
        for begin, end in self.frozen:
            awake &= (at < begin) | (at >= end)
        return awake


@dataclass(slots=True)
class _Replica:
    name: str
    lives: list[_Life]

    def current(self, now: float) -> _Life | None:
        return next((life for life in self.lives if life.born <= now < life.died), None)

    def ready(self, now: float) -> bool:
        return any(life.awake(np.array([now]))[0] for life in self.lives)

    def absences(self) -> Iterator[tuple[float, float]]:
        """Spans in which it does not answer a scrape."""
        for life, after in zip(self.lives, [*self.lives[1:], None], strict=True):
            yield from life.frozen
            if math.isfinite(life.died):
                yield life.died, math.inf if after is None else after.ready

    def answer(self, at: Floats, service: Floats) -> tuple[Floats, Floats]:
        """When requests that arrive `at` are answered (NaN: not here), and when the ingress gives up on those that are not."""
        done, gave_up = np.full_like(at, np.nan), at + REFUSED_S
        for life in self.lives:
            finish = at + service
            for begin, end in life.frozen:
                finish = np.where((at < end) & (finish > begin), end + service, finish)
            reached = (at >= life.ready) & (at < life.died)
            lost = np.minimum(life.died, at + INGRESS_PATIENCE_S)
            done = np.where(reached & (finish <= lost), finish, done)
            gave_up = np.where(reached, lost, gave_up)
        return done, gave_up


@dataclass(frozen=True, slots=True)
class _Answers:
    """What became of requests: shape (n,) each. `by` is the replica that answered, -1 for the ingress itself."""

    sent: Floats
    done: Floats
    status: npt.NDArray[np.int64]
    by: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Requests with everything about them that chance decides: shape (n,) each."""

    planned: Floats
    sent: Floats
    service: Floats
    failing: npt.NDArray[np.bool_]

    def first(self, count: int) -> _Traffic:
        return _Traffic(self.planned[:count], self.sent[:count], self.service[:count], self.failing[:count])



def _scraped(replica: _Replica, times: Floats, done: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """When a counter was scraped, and what it stood at: it begins again with each process."""
    at, values = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for life in replica.lives:
        scrapes = times[life.awake(times)]
        own = np.sort(done[(done >= life.born) & (done <= life.died)])
        at.append(scrapes)
        values.append(np.searchsorted(own, scrapes, side="right"))
    return np.concatenate(at), np.concatenate(values)


def _increase(counters: npt.NDArray[np.int64]) -> tuple[float, int]:
    steps = np.diff(counters)
    fell = steps < 0
    return float(np.where(fell, counters[1:], steps).sum()), int(np.count_nonzero(fell))
