"""What the gate says after a look, with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What is to be done. HOLD: go on looking."""

    PROMOTE = "PROMOTE"
    ROLLBACK = "ROLLBACK"
    HOLD = "HOLD"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStanding:
    """Where one metric stands.

    Attributes:
        name: in the plan.
        log_e_worse: natural logarithm of the evidence that the canary is worse than its margin allows.
        log_e_fine: of the evidence that it is within margin and objective; None when the metric does not gate.
        canary, control: what was measured since the stage began: share of events, or what `unit` says; None without data.
        unit: of the two.
        n: events that the evidence rests on, both arms.
        dispersion: variance over mean of the events per interval, 1 when they come one by one; None while unknown.
        why: one sentence for people.
    """

    name: str
    log_e_worse: float
    log_e_fine: float | None
    canary: float | None
    control: float | None
    unit: str
    n: int
    dispersion: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a canary stands after a look.

    Attributes:
        at: end of the interval, seconds since the epoch.
        stage: index.
        stage_s: how long the stage has lasted, s.
        action: what the gate says.
        reasons: why, one sentence each; never empty.
        log_e_rollback: of the metrics together; rolls back at `rollback_at`.
        rollback_at, promote_at: thresholds for the logarithms: log(1/alpha), log(1/beta).
        log_e_sample_ratio: evidence that traffic is split otherwise than planned.
        metrics: in the order of the rules.
    """

    at: float
    stage: int
    stage_s: float
    action: Action
    reasons: tuple[str, ...]
    log_e_rollback: float
    rollback_at: float
    promote_at: float
    log_e_sample_ratio: float
    metrics: tuple[MetricStanding, ...]
