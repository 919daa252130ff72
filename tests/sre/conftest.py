"""Recordings made by hand: what a generator would have written, without a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sre.measure.samples import SAMPLE, Failure, Recording, Samples

MakeRecording = Callable[..., tuple[Recording, Samples]]


@pytest.fixture(scope="session")
def make_recording() -> MakeRecording:
    """A regular load: `wait` s (a number, or one per request), the requests at the indices in `failed` without an answer."""

    def make(
        *, rate: float = 100.0, seconds: float = 60.0, wait: Any = 0.02, failed: Any = (), late: float = 0.001, **header: Any
    ) -> tuple[Recording, Samples]:
        started = 1000.0
        planned = started + np.arange(round(rate * seconds)) / rate
        samples = np.zeros(len(planned), dtype=SAMPLE)
        samples["planned"], samples["sent"], samples["done"], samples["status"] = planned, planned + late, planned + wait, 200
        for index in failed:
            samples["failure"][index], samples["status"][index] = Failure.CONNECT, 0
        fields: dict[str, Any] = {
            "rate": rate, "seconds": seconds, "seed": 1, "started": started, "started_wall": 1_800_000_000.0,
            "ended": started + seconds + 0.5, "cpu_seconds": 0.3 * seconds, "planned": len(planned),
            "stopped": False, "tool": "hand",
        }  # fmt: skip
        return Recording(**(fields | header)), samples

    return make
