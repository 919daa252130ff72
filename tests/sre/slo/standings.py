"""Standings made by hand: what would be known of an objective, without a Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sre.judges.budget import Counts
from sre.slo import promql
from sre.slo.live import Reading
from sre.slo.objective import Objective
from sre.slo.standing import Standing, Unknown, stand
from sre.slo.windows import DAY_S, HOUR_S, usable, workbook

BEGIN = 1_780_012_800.0  # midnight, UTC
HOURS = 10 * 24
AT = BEGIN + HOURS * HOUR_S
STEP_S = 300.0


def make_objective(name: str = "availability", service: str = "api") -> Objective:
    return Objective(
        name=name, service=service, description="Requests get an answer.", target=0.999, period_s=30 * DAY_S,
        bad=promql.counter("bad_total"), total=promql.counter("all_total"), windows=usable(workbook(30 * DAY_S), 0.001),
    )  # fmt: skip


def make_standing(
    failing: Sequence[tuple[int, int, float]] = (), an_hour: float = 12_000.0, objective: Objective | None = None
) -> Standing:
    """Ten days of steady traffic.

    Args:
        failing: from which hour to which hour which share of requests failed.
        an_hour: requests.
        objective: whose.
    """
    ends = BEGIN + STEP_S * np.arange(1.0, HOURS * 12 + 1)
    total = np.full(len(ends), an_hour / 12)
    bad = np.zeros(len(ends))
    for first, last, share in failing:
        bad[first * 12 : last * 12] = share * an_hour / 12
    queries = ("bad_total[1d]", "all_total[1d]")
    return stand(objective or make_objective(), Reading(Counts(BEGIN, ends, bad, total), True, 2, queries), AT)


def make_unknown(name: str = "latency") -> Unknown:
    return Unknown(make_objective(name), AT, "nothing counts the events of api/latency; is the service scraped?")
