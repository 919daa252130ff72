"""The memory target's load generator: every request of a plan at once, and a recording as a real generator would leave it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sre.errors import StepFailed
from sre.measure.samples import RECORDS_NAME, SAMPLE, Failure, Recording, write_header
from sre.readings import LoadPlan
from sre.targets.keys import UNKNOWN, MemoryKeys
from sre.targets.simulation import Answers, Traffic, VirtualClock


class LoadBehaviour(Protocol):
    """How a simulated load behaves; see `memory.Behaviour`."""

    service_s: float
    failing: float
    generator: Literal["sends", "silent", "dead"]
    late_s: float
    cpu: float


class Answering(Protocol):
    """What it sends to."""

    clock: VirtualClock
    keys: MemoryKeys

    @property
    def behaviour(self) -> LoadBehaviour:
        """Of both."""
        ...

    def answers(self, traffic: Traffic) -> Answers:
        """What becomes of requests."""
        ...


class MemoryLoad:
    """A load on a memory target, with a recording as a real generator would leave it. Made by `MemoryTarget.start_load`.

    Attributes:
        traffic: its requests.
        span: when it began, and when it ended or will, monotonic s.
    """

    def __init__(self, target: Answering, plan: LoadPlan, folder: Path, key: str | None = None) -> None:
        behaviour = target.behaviour
        self._target, self._plan, self._folder = target, plan, folder
        self._cpu, self._generator = behaviour.cpu, behaviour.generator
        self._started, self._started_wall = target.clock.now(), target.clock.wall()
        chance = np.random.default_rng(plan.seed)
        # As `sre.load.schedule` plans it, which this layer may not import.
        count = chance.poisson(plan.rate * plan.seconds)
        planned = self._started + np.sort(chance.uniform(0.0, plan.seconds, count))
        service = chance.gamma(4.0, behaviour.service_s / 4.0, count)
        self.traffic = Traffic(planned, planned + behaviour.late_s, service, chance.random(count) < behaviour.failing)
        self._planned = count
        if self._generator != "sends":
            self.traffic = self.traffic.first(0)
        self._written = False
        self.span = (self._started, self._started + plan.seconds)
        # From when on which key is shown; the key of all drills is known everywhere.
        self._shown: list[tuple[float, str]] = [(self._started, key)] if key else []

    def running(self) -> bool:
        """Whether it still sends or waits for answers."""
        if self._written or self._generator == "dead":
            return False
        now = self._target.clock.now()
        return now < self._started + self._plan.seconds or now < self._end()

    def progress(self) -> str:
        """For example `12,034 requests, 3 failed`."""
        records = self._records(self._sent())
        records = records[records["done"] <= self._target.clock.now()]
        return f"{len(records):,} requests, {np.count_nonzero(records['failure']):,} failed"

    def show(self, key: str) -> None:
        """From now on. Raises StepFailed when it does not send."""
        if not self.running():
            raise StepFailed("the load has ended, so nobody is left to show a key")
        self._shown.append((self._target.clock.now(), key))

    def stop(self) -> None:
        """End it now; the answers under way are waited for. Idempotent.

        Raises:
            StepFailed: the generator was to die without a recording.
        """
        if self._generator == "dead":
            raise StepFailed("the load generator died without a recording; last words: none")
        if self._written:
            return
        clock = self._target.clock
        stopped = clock.now() < self._started + self._plan.seconds
        if stopped:
            self.traffic, self.span = self._sent(), (self._started, clock.now())
        if stopped and self._generator == "sends":
            self._planned = len(self.traffic.planned)
        self._write(stopped=stopped)

    def wait(self) -> None:
        """Move on to the schedule's end. Raises as `stop` does."""
        self._target.clock.sleep(self._end() - self._target.clock.now())
        self.stop()

    def _sent(self) -> Traffic:
        return self.traffic.first(int(np.searchsorted(self.traffic.planned, self._target.clock.now())))

    def _end(self) -> float:
        return max(self._started + self._plan.seconds, float(self._records(self.traffic)["done"].max(initial=0.0)))

    def _records(self, traffic: Traffic) -> npt.NDArray[np.void]:
        became = self._target.answers(traffic)
        records = np.zeros(len(traffic.planned), dtype=SAMPLE)
        records["planned"], records["sent"] = traffic.planned, traffic.sent
        status = became.status.copy()
        until = [*(begin for begin, _ in self._shown[1:]), math.inf][: len(self._shown)]
        for (begin, key), end in zip(self._shown, until, strict=True):
            chosen = (traffic.sent >= begin) & (traffic.sent < end)
            known = self._target.keys.known(became.by[chosen], key, traffic.sent[chosen])
            status[chosen] = np.where(known, status[chosen], UNKNOWN)
        records["done"], records["status"] = became.done, status
        records["failure"] = np.where(status == 200, Failure.NONE, Failure.STATUS)
        return records

    def _write(self, *, stopped: bool) -> None:
        clock = self._target.clock
        sending = min(clock.now() - self._started, self._plan.seconds)
        records = self._records(self.traffic)
        clock.sleep(float(records["done"].max(initial=0.0)) - clock.now())
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / RECORDS_NAME).write_bytes(records.tobytes())
        recording = Recording(
            rate=self._plan.rate, seconds=self._plan.seconds, seed=self._plan.seed, started=self._started,
            started_wall=self._started_wall, ended=clock.now(), cpu_seconds=self._cpu * sending, planned=self._planned,
            stopped=stopped, tool="memory",
        )  # fmt: skip
        write_header(self._folder, recording)
        self._written = True
