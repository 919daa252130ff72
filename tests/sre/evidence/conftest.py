"""Factories: a record with everything in it, and a realistic recording of 60 s at 1000/s with an outage of 6 s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sre.evidence.schema import DrillRecord, FaultRecord, RunRecord, StepRecord
from sre.measure.samples import RECORDS_NAME, SAMPLE, Failure, Recording, write_header
from sre.units import Comparison, Unit
from sre.verdict import Outcome, Verdict

BEGAN, WALL = 5000.0, 1_767_268_800.0  # 2026-01-01T12:00:00Z
RUN_ID = "20260101T120000Z-pod-recovery"


class FixedClock:
    """Stands still unless told to sleep."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return BEGAN + self.passed

    def wall(self) -> float:
        return WALL + self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


def make_verdict(**changes: Any) -> Verdict:
    verdict = Verdict(
        promise="pod-recovery",
        outcome=Outcome.KEPT,
        measured=6.4,
        bound=30.0,
        comparison=Comparison.BELOW,
        unit=Unit.SECONDS,
        n=1,
        interval=None,
        why="every replica was ready again and stayed so for 10 s",
    )
    return replace(verdict, **changes)


def make_drill(**changes: Any) -> DrillRecord:
    steps = (
        StepRecord(name="preflight", seconds=0.3, result="ok", detail="3 of 3 replicas ready"),
        StepRecord(name="steady", seconds=20.0, result="ok", detail="1,003 req/s   p95 21 ms   errors 0.00 %"),
        StepRecord(name="inject", seconds=0.1, result="ok", detail="SIGKILL serving-2   undo: restart serving-2"),
        StepRecord(name="prove_injected", seconds=0.8, result="ok", detail="2 of 3 ready, seen by Prometheus"),
        StepRecord(name="recover", seconds=6.4, result="ok", detail="3 of 3 ready, held 10 s"),
        StepRecord(name="undo", seconds=0.0, result="ok", detail="nothing left changed"),
        StepRecord(name="judge", seconds=1.2, result="ok", detail="60,211 samples"),
    )
    availability = make_verdict(
        promise="availability",
        outcome=Outcome.BROKEN,
        measured=0.99412,
        bound=0.999,
        comparison=Comparison.AT_LEAST,
        unit=Unit.RATIO,
        n=60_211,
        interval=(0.99348, 0.9947),
        why="354 of 60,211 requests failed, 341 of them while the replica was gone",
    )
    drill = DrillRecord(
        name="pod-recovery",
        sentence="a killed replica serves again in under 30 s",
        outcome=Outcome.BROKEN,
        started=BEGAN - 0.4,
        started_wall=WALL - 0.4,
        ended=BEGAN + 61.2,
        steps=steps,
        verdicts=(make_verdict(), availability),
        findings=("the servers counted 59,857 predictions and the clients 59,860: more than the stated error of 2",),
        fault=FaultRecord(name="SIGKILL serving-2", start=BEGAN + 20.0, end=BEGAN + 26.4),
        facts={"killed": {"replica": "serving-2", "identity": "4711@1767268820"}, "ready_again": BEGAN + 26.4, "restarts": 1},
        folder="drills/pod-recovery",
    )
    return replace(drill, **changes)


def make_run(**changes: Any) -> RunRecord:
    run = RunRecord(
        id=RUN_ID,
        title="sre drill pod-recovery",
        target="local",
        started=WALL - 1.0,
        ended=WALL + 62.0,
        outcome=Outcome.BROKEN,
        exit_code=1,
        drills=(make_drill(),),
        environment={
            "commit": "3f1c2ab",
            "machine": {"processors": 2, "memory_bytes": 8_254_914_560, "kernel": "6.1.0"},
            "programs": {"nginx": "1.22.1", "postgresql": "15.9", "prometheus": "2.42.0"},
        },
    )
    return replace(run, **changes)


def write_recording(
    folder: Path, rate: float = 1000.0, seconds: float = 60.0, outage: tuple[float, float] = (20.0, 26.4)
) -> None:
    """Poisson arrivals at `rate`; in the outage one request in three waits for a retry and some of them time out."""
    numbers = np.random.default_rng(7)
    planned = np.cumsum(numbers.exponential(1 / rate, int(rate * seconds)))
    planned = planned[planned < seconds]
    size = len(planned)
    latency = 0.006 + numbers.gamma(2.0, 0.004, size)
    hit = (planned >= outage[0]) & (planned < outage[1]) & (numbers.random(size) < 1 / 3)
    latency[hit] += numbers.gamma(2.0, 0.16, int(hit.sum()))
    lost = hit & (numbers.random(size) < 0.16)
    samples = np.zeros(size, dtype=SAMPLE)
    samples["planned"] = BEGAN + planned
    samples["sent"] = samples["planned"] + numbers.exponential(0.0003, size)
    samples["done"] = samples["planned"] + latency
    samples["status"] = np.where(lost, 502, 200)
    samples["failure"] = np.where(lost, Failure.STATUS, Failure.NONE)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORDS_NAME).write_bytes(samples.tobytes())
    recording = Recording(
        rate=rate,
        seconds=seconds,
        seed=7,
        started=BEGAN,
        started_wall=WALL,
        ended=BEGAN + seconds + 0.5,
        cpu_seconds=21.0,
        planned=size,
        stopped=False,
        tool="factory 1",
    )
    write_header(folder, recording)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture(name="make_verdict")
def _make_verdict() -> Callable[..., Verdict]:
    return make_verdict


@pytest.fixture(name="make_drill")
def _make_drill() -> Callable[..., DrillRecord]:
    return make_drill


@pytest.fixture(name="make_run")
def _make_run() -> Callable[..., RunRecord]:
    return make_run


@pytest.fixture(name="write_recording")
def _write_recording() -> Callable[..., None]:
    return write_recording
