"""A recording second by second, for the report's timeline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sre.measure.quantiles import answered, latencies, quantile
from sre.measure.samples import Recording, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value per window, windows by planned time; plain numbers, ready for JSON.

    Attributes:
        width: of a window, s.
        start: of each window, s from planned time zero.
        sent, ok, failed: requests planned in the window that left, that got a prediction, that did not.
        p50, p95, p99: s from the planned send, failures as infinitely long; None where that is infinite or nothing was planned.
    """

    width: float
    start: tuple[float, ...]
    sent: tuple[int, ...]
    ok: tuple[int, ...]
    failed: tuple[int, ...]
    p50: tuple[float | None, ...]
    p95: tuple[float | None, ...]
    p99: tuple[float | None, ...]


def series(recording: Recording, samples: Samples, width: float = 1.0) -> Series:
    """Cut a recording into windows of `width` s; samples ordered by planned time, as `samples.read` gives them."""
    since = samples["planned"] - recording.started
    count = math.floor(since[-1] / width) + 1 if len(since) else 0
    cuts = np.searchsorted(since, np.arange(1, count) * width)
    parts = np.split(samples, cuts) if count else []
    waits = [latencies(part) for part in parts]
    good = [int(np.count_nonzero(answered(part))) for part in parts]

    def quantiles(q: float) -> tuple[float | None, ...]:
        values = (quantile(wait, q) for wait in waits)
        return tuple(value if math.isfinite(value) else None for value in values)

    return Series(
        width=width,
        start=tuple(window * width for window in range(count)),
        sent=tuple(int(np.count_nonzero(~np.isnan(part["sent"]))) for part in parts),
        ok=tuple(good),
        failed=tuple(len(part) - ok for part, ok in zip(parts, good, strict=True)),
        p50=quantiles(0.50),
        p95=quantiles(0.95),
        p99=quantiles(0.99),
    )
