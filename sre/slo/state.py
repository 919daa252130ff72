"""The current state of the objectives, from Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

from sre.probes.prometheus import Prometheus
from sre.units import Comparison, Unit
from sre.verdict import Outcome

_PREDICT = 'job="serving",path="/predict"'


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective over a window.

    Attributes:
        name: for people.
        expression: PromQL with `{window}`.
        comparison, bound, unit: what is promised.
    """

    name: str
    expression: str
    comparison: Comparison
    bound: float
    unit: Unit


OBJECTIVES = (
    Objective(
        "availability",
        f"1 - sum(increase(http_request_errors_total{{{_PREDICT}}}[{{window}}]))"
        f" / sum(increase(http_requests_total{{{_PREDICT}}}[{{window}}]))",
        Comparison.AT_LEAST, 0.999, Unit.RATIO,
    ),
    Objective(
        "latency-p95",
        f"histogram_quantile(0.95, sum by (le) (increase(http_request_duration_seconds_bucket{{{_PREDICT}}}[{{window}}])))",
        Comparison.BELOW, 0.5, Unit.SECONDS,
    ),
    Objective("replicas", 'count(up{job="serving"} == 1) or vector(0)', Comparison.AT_LEAST, 3, Unit.COUNT),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an objective stands; `measured` is None without data, and then the outcome is inconclusive.

    `budget_left` is the share of the allowed failures that is not used up, below zero when overspent; None where there is none.
    """

    objective: Objective
    measured: float | None
    outcome: Outcome
    budget_left: float | None


def standings(url: str, window: str) -> list[Standing]:
    """Ask Prometheus for every objective.

    Args:
        url: of Prometheus.
        window: PromQL duration, for example `1h` or `30d`.
    """
    prometheus = Prometheus(url)
    return [_standing(objective, prometheus.value(objective.expression.replace("{window}", window))) for objective in OBJECTIVES]


def _standing(objective: Objective, measured: float | None) -> Standing:
    if measured is None:
        return Standing(objective, None, Outcome.INCONCLUSIVE, None)
    kept = objective.comparison.holds(measured, objective.bound)
    budget = 1 - (1 - measured) / (1 - objective.bound) if objective.unit is Unit.RATIO else None
    return Standing(objective, measured, Outcome.KEPT if kept else Outcome.BROKEN, budget)
