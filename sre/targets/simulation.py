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
_NEXT_PID = 100  # so far from the one before it
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
class Process:
    """One process of a replica: monotonic s, and the spans in which it was frozen."""

    pid: int
    born: float
    ready: float
    died: float = math.inf
    frozen: list[tuple[float, float]] = field(default_factory=list)

    def freeze(self, now: float) -> None:
        """From now on it answers nothing."""
        self.thaw(now)
        self.frozen.append((now, math.inf))

    def thaw(self, now: float) -> None:
        """End a freeze; no effect when there is none."""
        if self.frozen and math.isinf(self.frozen[-1][1]):
            self.frozen[-1] = self.frozen[-1][0], now

    def awake(self, at: Floats) -> npt.NDArray[np.bool_]:
        """Whether it answers at these moments, shape (n,)."""
        awake: npt.NDArray[np.bool_] = (at >= self.ready) & (at < self.died)
        for begin, end in self.frozen:
            awake &= (at < begin) | (at >= end)
        return awake


@dataclass(slots=True)
class SimulatedReplica:
    """A replica and its processes, oldest first; the last may not be born yet."""

    name: str
    processes: list[Process]

    def identity(self, now: float) -> str:
        """Of the process that there is; empty while there is none."""
        process = self.current(now)
        return f"{process.pid}@{process.born:.3f}" if process else ""

    def current(self, now: float) -> Process | None:
        """The process that there is, ready or not."""
        return next((process for process in self.processes if process.born <= now < process.died), None)

    def replace(self, at: float, born: float, ready: float) -> None:
        """Its process ends, and the next begins and gets ready: monotonic s each."""
        last = self.processes[-1]
        last.thaw(at)
        last.died = at
        self.processes.append(Process(last.pid + _NEXT_PID, born, ready))

    def ready(self, now: float) -> bool:
        """Whether it answers."""
        return any(process.awake(np.array([now]))[0] for process in self.processes)

    def absences(self) -> Iterator[tuple[float, float]]:
        """Spans in which it does not answer a scrape."""
        for process, after in zip(self.processes, [*self.processes[1:], None], strict=True):
            yield from process.frozen
            if math.isfinite(process.died):
                yield process.died, math.inf if after is None else after.ready

    def answer(self, at: Floats, service: Floats) -> tuple[Floats, Floats]:
        """When requests that arrive `at` are answered (NaN: not here), and when the ingress gives up on those that are not."""
        done, gave_up = np.full_like(at, np.nan), at + REFUSED_S
        for process in self.processes:
            finish = at + service
            for begin, end in process.frozen:
                finish = np.where((at < end) & (finish > begin), end + service, finish)
            reached = (at >= process.ready) & (at < process.died)
            lost = np.minimum(process.died, at + INGRESS_PATIENCE_S)
            done = np.where(reached & (finish <= lost), finish, done)
            gave_up = np.where(reached, lost, gave_up)
        return done, gave_up


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of requests: shape (n,) each. `by` is the replica that answered, -1 for the ingress itself."""

    sent: Floats
    done: Floats
    status: npt.NDArray[np.int64]
    by: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests with everything about them that chance decides: shape (n,) each."""

    planned: Floats
    sent: Floats
    service: Floats
    failing: npt.NDArray[np.bool_]

    def first(self, count: int) -> Traffic:
        """The first so many of them."""
        return Traffic(self.planned[:count], self.sent[:count], self.service[:count], self.failing[:count])


def answers(
    replicas: Sequence[SimulatedReplica],
    traffic: Traffic,
    arms: Sequence[SimulatedReplica] = (),
    arm: npt.NDArray[np.int64] | None = None,
) -> Answers:
    """What becomes of requests: the ingress asks the replicas in turn until one answers, and answers 502 when none does.

    Args:
        replicas: those in production.
        traffic: the requests, n of them.
        arms: a canary and its control, each numbered after the replicas; what they do not answer goes to those.
        arm: which of the arms each request is for, by its index, -1 for none: shape (n,). None: no request is for one.
    """
    count = len(traffic.sent)
    at, done, by = traffic.sent.copy(), np.full(count, np.nan), np.full(count, -1)

    def ask(number: int, replica: SimulatedReplica, chosen: npt.NDArray[np.bool_]) -> None:
        asked = np.flatnonzero(np.isnan(done) & chosen)
        finish, gave_up = replica.answer(at[asked], traffic.service[asked])
        done[asked], at[asked] = finish, gave_up
        by[asked] = np.where(np.isnan(finish), -1, number)

    if arm is not None:
        for index, replica in enumerate(arms):
            ask(len(replicas) + index, replica, arm == index)
    for attempt in range(len(replicas)):
        for number, replica in enumerate(replicas):
            ask(number, replica, (np.arange(count) + attempt) % len(replicas) == number)
    status = np.where(np.isnan(done), 502, np.where(traffic.failing, 500, 200))
    return Answers(traffic.sent, np.where(np.isnan(done), at, done), status, by)


def outages(replicas: Sequence[SimulatedReplica], missing: int = 1) -> list[tuple[float, float]]:
    """Spans in which at least so many replicas do not answer a scrape, in order; the last may have no end."""
    steps = [step for replica in replicas for begin, end in replica.absences() for step in ((begin, -1), (end, 1))]
    found, out, since = list[tuple[float, float]](), 0, math.nan
    # At one moment who goes is before who comes: two absences side by side are one.
    for at, step in sorted(steps):
        out -= step
        if out == missing and step < 0:
            since = at
        elif out == missing - 1 and step > 0:
            found.append((since, at))
    return found


def scraped(replica: SimulatedReplica, times: Floats, done: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """When a counter was scraped, and what it stood at: it begins again with each process."""
    at, values = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for process in replica.processes:
        scrapes = times[process.awake(times)]
        own = np.sort(done[(done >= process.born) & (done <= process.died)])
        at.append(scrapes)
        values.append(np.searchsorted(own, scrapes, side="right"))
    return np.concatenate(at), np.concatenate(values)


def increase(counters: npt.NDArray[np.int64]) -> tuple[float, int]:
    """By how much scraped values of a counter grew, and how often it began again."""
    steps = np.diff(counters)
    fell = steps < 0
    return float(np.where(fell, counters[1:], steps).sum()), int(np.count_nonzero(fell))
