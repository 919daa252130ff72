"""The budget against a ledger: a month with idle nights and restarts goes through a real Prometheus, and must come back whole."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sre.judges.budget import Floats
from sre.slo import promql
from sre.slo.live import Missing, read
from sre.slo.objective import Objective
from sre.slo.standing import stand
from tests.sre.slo.history import backfill, served
from tests.studies.slo import traffic

BEGIN = 1_780_012_800.0  # midnight, UTC
STEP_S = 60.0  # between two scrapes
TOLERANCE = 0.001
_BASE_STEPS = 5  # of the ratios that others average
_RESTARTS_A_DAY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerResult:
    """What became of a ledger.

    Attributes:
        days: of it.
        bad, total: events of the ledger.
        read_bad, read_total: found by the evaluator.
        spent, read_spent: shares of the budget.
        averaged: share of the budget by the mean of five-minute ratios, as some tools have it; None when one of them is NaN.
        resets: counters that began again.
    """

    days: int
    bad: float
    total: float
    read_bad: float
    read_total: float
    spent: float
    read_spent: float
    averaged: float | None
    resets: int

    @property
    def off(self) -> float:
        """Relative error of what was spent."""
        return abs(self.read_spent / self.spent - 1)


def run(seed: int, days: int, programs: Path) -> dict[str, Any]:
    """Send a ledger through Prometheus; gives the fields of a `LedgerResult`."""
    made = traffic.office(seed, days, STEP_S)
    rng = np.random.default_rng([seed, 3])
    restarts = np.sort(rng.choice(len(made.ends), _RESTARTS_A_DAY * days, replace=False))
    at = BEGIN + np.append(0.0, made.ends)
    series = {
        f"{name}_total": list(zip(at.tolist(), _counter(steps, restarts).tolist(), strict=True))
        for name, steps in (("bad", made.bad), ("all", made.total))
    }
    objective = Objective(
        name="office", service="study", description="", target=traffic.TARGET, period_s=traffic.PERIOD_S,
        bad=promql.counter("bad_total"), total=promql.counter("all_total"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        backfill(programs, Path(folder), series)
        with served(programs, Path(folder)) as url:
            reading = read(url, objective, BEGIN, float(at[-1]))
    assert not isinstance(reading, Missing), reading.why
    budget = stand(objective, reading, float(at[-1])).budget
    bad, total = float(made.bad.sum()), float(made.total.sum())
    found = LedgerResult(
        days=days, bad=bad, total=total, read_bad=budget.bad, read_total=budget.total, spent=bad / total / traffic.ALLOWED,
        read_spent=budget.spent, averaged=_averaged(made.bad, made.total), resets=reading.resets,
    )  # fmt: skip
    return asdict(found)


def _counter(steps: Floats, restarts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """What a counter shows at each scrape that begins anew before the steps `restarts`: it counts from zero from there on."""
    values = np.append(0.0, np.cumsum(steps))
    lost = np.zeros_like(values)
    for restart in restarts:
        lost[restart + 1 :] = values[restart]
    return values - lost


def _averaged(bad: Floats, total: Floats) -> float | None:
    bad, total = (values.reshape(-1, _BASE_STEPS).sum(axis=1) for values in (bad, total))
    with np.errstate(invalid="ignore"):
        mean = float((bad / total).mean()) / traffic.ALLOWED
    return None if np.isnan(mean) else mean
