"""The table of promises. Everything else in the toolkit exists to judge a row of it."""

from __future__ import annotations

from dataclasses import dataclass

from sre.errors import UsageError
from sre.units import Comparison, Unit


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence of the architecture document that a drill can prove or break.

    Attributes:
        id: stable name, used in evidence and on the command line.
        sentence: the promise in words.
        comparison: how the measured value must stand to the bound.
        bound: in the base unit.
        unit: of the bound.
        least: fewest samples a verdict may rest on; with fewer it is inconclusive.
        drills: names of the drills that judge it.
        runbook: file in `runbooks/` for the day that it breaks.
    """

    id: str
    sentence: str
    comparison: Comparison
    bound: float
    unit: Unit
    least: int
    drills: tuple[str, ...]
    runbook: str


_BELOW, _AT_LEAST = Comparison.BELOW, Comparison.AT_LEAST

PROMISES: tuple[Promise, ...] = (
    Promise("throughput", "1000+ predictions a second, sustained", _AT_LEAST, 1000.0, Unit.PER_SECOND, 20_000,
            ("peak-load",), "high-latency"),
    Promise("latency-p95", "95 % of predictions answered in under 500 ms", _BELOW, 0.5, Unit.SECONDS, 1000,
            ("peak-load",), "high-latency"),
    Promise("latency-p99", "99 % of predictions answered in under 1 s", _BELOW, 1.0, Unit.SECONDS, 5000,
            ("peak-load",), "high-latency"),
    Promise("error-rate", "fewer than 0.1 % of predictions fail under load", _BELOW, 0.001, Unit.RATIO, 5000,
            ("peak-load",), "high-error-rate"),
    Promise("availability", "99.9 % of requests are served, while a replica is lost", _AT_LEAST, 0.999, Unit.RATIO, 5000,
            ("pod-recovery",), "high-error-rate"),
    Promise("pod-recovery", "a killed replica serves again in under 30 s", _BELOW, 30.0, Unit.SECONDS, 1,
            ("pod-recovery",), "low-replica-count"),
    Promise("alerting", "a fault raises its alert within 2 min", _BELOW, 120.0, Unit.SECONDS, 1,
            ("alerting",), "low-replica-count"),
    Promise("alert-resolution", "an alert resolves within 2 min of the repair", _BELOW, 120.0, Unit.SECONDS, 1,
            ("alerting",), "low-replica-count"),
    Promise("model-quality", "the model is right on at least 85 % of images it never saw", _AT_LEAST, 0.85, Unit.RATIO, 100,
            ("training",), "model-quality"),
    Promise("restore-time", "a backup is restored and serves in under 1 h", _BELOW, 3600.0, Unit.SECONDS, 1,
            ("backup-restore",), "restore"),
    Promise("restore-content", "a restore holds every row and object, unaltered", _BELOW, 1.0, Unit.COUNT, 1,
            ("backup-restore",), "restore"),
    Promise("data-loss", "a restore loses less than 24 h of data", _BELOW, 86_400.0, Unit.SECONDS, 1,
            ("backup-restore",), "restore"),
)  # fmt: skip

_BY_ID = {promise.id: promise for promise in PROMISES}


def promise(promise_id: str) -> Promise:
    """The promise of that id.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    try:
        return _BY_ID[promise_id]
    except KeyError:
        raise UsageError(f"promise {promise_id!r} does not exist; there are {', '.join(_BY_ID)}") from None
