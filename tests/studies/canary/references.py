"""Replicas of three judges of canaries, written from descriptions of what their sources do: Kayenta, Flagger, Argo Rollouts.

None of them states an error rate. What is left out does not decide: transport, configuration, Kubernetes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

TOLERANCE, CONFIDENCE = 0.25, 0.98  # literals in Kayenta's source; the settings of the same names are not obeyed
_ROOT_WITHIN = 1e-4
_NOISE = 1e-5


class Class(StrEnum):
    """What Kayenta says of one metric."""

    PASS = "Pass"
    HIGH = "High"
    LOW = "Low"
    NODATA = "Nodata"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Shift of the canary against its baseline by Mann and Whitney: Hodges and Lehmann's estimate and an interval of 98 %."""

    low: float
    high: float
    shift: float


def mann_whitney(canary: Floats, baseline: Floats) -> Estimate:
    """Invert the normal approximation of the rank sum, with tie correction and, for the interval, a continuity of 0.5."""
    least, most = float(canary.min() - baseline.max()), float(canary.max() - baseline.min())

    def statistic(shift: float, *, continuity: bool) -> float:
        ranks = rankdata(np.concatenate([canary - shift, baseline]))
        n, m = len(canary), len(baseline)
        _, ties = np.unique(ranks, return_counts=True)
        above = ranks[:n].sum() - n * (n + 1) / 2 - n * m / 2
        spread = math.sqrt(n * m / 12 * (n + m + 1 - (ties**3 - ties).sum() / ((n + m) * (n + m - 1))))
        return float(above - (np.sign(above) * 0.5 if continuity else 0.0)) / spread if spread else 0.0

    def root(quantile: float, *, continuity: bool) -> float:
        def at(shift: float) -> float:
            return statistic(shift, continuity=continuity) - quantile

        if at(least) <= 0:
            return least
        return most if at(most) >= 0 else float(brentq(at, least, most, xtol=_ROOT_WITHIN))

    quantile = float(ndtri((1 + CONFIDENCE) / 2))
    return Estimate(root(quantile, continuity=True), root(-quantile, continuity=True), root(0.0, continuity=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kayenta:
    """The judge of one metric.

    Attributes:
        nan: leave points without a value out, or take them for 0.
        direction: which change matters.
        allowed_increase: ratio of means from which a change matters; a mean of 0 makes it not asked.
        outliers: take values far outside the quartiles away first.
    """

    nan: Literal["remove", "replace"] = "remove"
    direction: Literal["increase", "decrease", "either"] = "increase"
    allowed_increase: float = 1.0
    outliers: bool = False

    def classify(self, canary: Sequence[float], baseline: Sequence[float], noise: np.random.Generator | None = None) -> Class:
        """Classify.

        Args:
            canary: points, NaN where there is none.
            baseline: the same.
            noise: for arms that are constant both, to which Kayenta adds unseeded noise.
        """
        arms = [np.asarray(points, dtype=np.float64) for points in (canary, baseline)]
        if self.nan == "replace":
            if any(np.isnan(arm).all() for arm in arms):
                return Class.PASS
            arms = [np.nan_to_num(arm, nan=0.0) for arm in arms]
        arms = [arm[~np.isnan(arm)] for arm in arms]
        if not all(len(arm) for arm in arms):
            return Class.NODATA
        ours, theirs = (_inside(arm) if self.outliers else arm for arm in arms)
        if np.array_equal(np.sort(ours), np.sort(theirs)):
            return Class.PASS
        ratio = ours.mean() / theirs.mean() if ours.mean() and theirs.mean() else math.nan
        if len(set(ours)) == len(set(theirs)) == 1:
            generator = noise or np.random.default_rng(0)
            ours, theirs = (arm + generator.normal(0.0, _NOISE * np.abs(arm)) for arm in (ours, theirs))
        found = mann_whitney(ours, theirs)
        bound = TOLERANCE * abs(found.shift)
        if self.direction != "decrease" and found.low > bound and not ratio < self.allowed_increase:
            return Class.HIGH
        if self.direction != "increase" and found.high < -bound and not ratio > 1 / self.allowed_increase:
            return Class.LOW
        return Class.PASS


def _inside(points: Floats) -> Floats:
    """Without outliers: beyond both three interquartile ranges from the quartiles and the 1st or 99th percentile."""
    least, first, third, most = np.percentile(points, [1, 25, 75, 99])
    reach = 3 * (third - first)
    kept: Floats = points[(points >= min(first - reach, least)) & (points <= max(third + reach, most))]
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A classified metric and how it counts."""

    name: str
    found: Class
    group: str = "all"
    critical: bool = False
    must_have_data: bool = False


def kayenta_score(metrics: Sequence[Scored], weights: Mapping[str, float] | None = None) -> float:
    """The score, 0 to 100. A group of which nothing is known counts as 100 per cent passed.

    Args:
        metrics: at least one.
        weights: per group, summing to 100; equal when left out.
    """
    blind = sum(metric.found is Class.NODATA for metric in metrics)
    if 2 * blind >= len(metrics) or any(metric.critical and metric.found is not Class.PASS for metric in metrics):
        return 0.0
    groups = sorted({metric.group for metric in metrics})
    total = 0.0
    for group in groups:
        members = [metric for metric in metrics if metric.group == group]
        counted = [metric for metric in members if metric.found is not Class.NODATA or metric.must_have_data]
        passed = sum(metric.found is Class.PASS for metric in counted)
        share = passed / len(counted) if counted else 1.0
        total += share * (weights[group] if weights else 100.0 / len(groups))
    return total


@dataclass(frozen=True, slots=True)
class FlaggerEnd:
    """How a Flagger analysis ended, and at which check (from 0): promoted, rolled back, or not ended yet."""

    state: Literal["promoted", "rolled-back", "progressing"]
    check: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flagger:
    """Flagger's analysis: a value against fixed bounds, once per check.

    Attributes:
        low, high: smallest and largest value that is right.
        threshold: failed checks, of the whole analysis, that roll back.
        steps: passed checks until the promotion.
    """

    low: float = -math.inf
    high: float = math.inf
    threshold: int = 1
    steps: int = 10

    def run(self, checks: Sequence[Sequence[float]], waiting: Container[int] = ()) -> FlaggerEnd:
        """How the analysis ends.

        Args:
            checks: the series that each query returned: of several the last one wins, none is a failed check, and so is NaN.
            waiting: checks in the phase WaitingTrafficIncrease, in which nothing rolls back.
        """
        failed = passed = 0
        for number, series in enumerate(checks):
            value = series[-1] if series else math.nan
            right = self.low <= value <= self.high
            passed, failed = passed + right, failed + (not right)
            if failed >= self.threshold and number not in waiting:
                return FlaggerEnd("rolled-back", number)
            if passed >= self.steps:
                return FlaggerEnd("promoted", number)
        return FlaggerEnd("progressing", len(checks) - 1)


class Phase(StrEnum):
    """A state of one of Argo's measurements, or of a metric."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"
    RUNNING = "Running"


Condition = Callable[[Sequence[float]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argo:
    """A metric of an AnalysisTemplate.

    Attributes:
        success, failure: conditions on `result`, the series of a query; None when not written.
        count: measurements wanted; those that ended in an error are not counted.
        failure_limit, inconclusive_limit, error_limit: more than these end it; the last counts errors in a row.
    """

    success: Condition | None = None
    failure: Condition | None = None
    count: int = 10
    failure_limit: int = 0
    inconclusive_limit: int = 0
    error_limit: int = 4

    def measure(self, result: Sequence[float]) -> Phase:
        """The state of one measurement."""
        try:
            failed = self.failure is not None and self.failure(result)
            succeeded = self.success is not None and self.success(result)
        except IndexError:
            return Phase.ERROR
        if failed or (self.failure is None and self.success is not None and not succeeded):
            return Phase.FAILED
        return Phase.SUCCESSFUL if self.success is None or succeeded else Phase.INCONCLUSIVE

    def run(self, results: Sequence[Sequence[float]], *, terminated: bool = False) -> tuple[Phase, int]:
        """The state after the measurements, and how many were taken.

        Args:
            results: of the queries, in order.
            terminated: the run is ended from outside after them, for example because the rollout went on.
        """
        seen = dict.fromkeys(Phase, 0)
        in_a_row = 0
        for number, result in enumerate(results, 1):
            phase = self.measure(result)
            seen[phase] += 1
            in_a_row = in_a_row + 1 if phase is Phase.ERROR else 0
            if seen[Phase.FAILED] > self.failure_limit:
                return Phase.FAILED, number
            if seen[Phase.INCONCLUSIVE] > self.inconclusive_limit:
                return Phase.INCONCLUSIVE, number
            if in_a_row > self.error_limit:
                return Phase.ERROR, number
            if number - seen[Phase.ERROR] >= self.count:
                return Phase.SUCCESSFUL, number
        return Phase.SUCCESSFUL if terminated else Phase.RUNNING, len(results)
