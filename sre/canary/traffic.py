"""What the version in production did lately, for the planner."""

from __future__ import annotations

from sre.canary.burn import PRODUCTION
from sre.canary.counting import Counting
from sre.canary.plan import REQUESTS, Plan
from sre.canary.reading import Look
from sre.canary.view import duration
from sre.errors import CannotRun
from sre.judges.canary.planner import StageForecast, Traffic


def since(plan: Plan, start: float) -> float:
    """How far back a look must reach to count from `start`, seconds since the epoch."""
    return Counting(plan, start, (PRODUCTION, PRODUCTION)).since


def traffic(plan: Plan, look: Look, start: float) -> Traffic:
    """Rates from one look at the replicas in production.

    Args:
        plan: of the canary.
        look: that reaches back to `since(plan, start)`.
        start: from when on is counted, seconds since the epoch.

    Raises:
        CannotRun: the requests cannot be counted.
    """
    interval = Counting(plan, start, (PRODUCTION, PRODUCTION)).look(look)
    gone = next((missing.detail for missing in interval.missing if missing.metric == REQUESTS), None)
    if gone is not None:
        raise CannotRun(f"today's traffic is not known: {gone}")
    return Traffic(
        requests_per_s=interval.control_requests / (interval.end - interval.start), requests=interval.control_requests,
        observations=interval.observations, dispersion={},
    )  # fmt: skip


def sentence(forecast: StageForecast) -> str:
    """A forecast in words."""
    half, most = duration(forecast.median_s), duration(forecast.ninety_s)
    return f"{forecast.weight:.0%}: half of all healthy rollouts take {half}, nine of ten at most {most} ({forecast.why})"
