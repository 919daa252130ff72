"""The error budget of an objective: what was allowed, what was spent, how fast it goes, and when it will be gone.

Every figure is weighted by events, and what counts as an event is the budgeting method's business: a request, or a slice of time.
Where nothing happened nothing is counted, so that no figure is ever NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from sre.errors import EvidenceDamaged
from sre.measure.confseq import proportion

Floats = npt.NDArray[np.float64]

ALPHA = 0.05  # of every interval
INCIDENT_SHARE = 0.2  # of the budget of the whole period: an incident that costs more wants a postmortem (SRE workbook)
_FEW_BAD = 10.0  # of these a single one more or less decides, so the interval does
# exp(-EVIDENCE) is 5 %: how rarely so many bad events come when the budget burns no faster than the factor.
EVIDENCE = -math.log(0.05)
_SHORT = 12  # the part of an incident's window that tells when it began and ended
_FORECAST_STEPS = 2000


class Method(StrEnum):
    """How a budget is counted; names of OpenSLO.

    OCCURRENCES: share of bad events. TIMESLICES: share of slices of time whose good share is below the slice target.
    RATIO_TIMESLICES: mean of the slices' bad shares. A slice without events counts neither way.
    """

    OCCURRENCES = "Occurrences"
    TIMESLICES = "Timeslices"
    RATIO_TIMESLICES = "RatioTimeslices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is promised.

    Attributes:
        target: share that must be good, above 0 and below 1.
        period: over which the budget is counted, s.
        since: when a calendar period began, seconds since the epoch; None for a rolling one, which old events leave.
        method: see there.
        slice_s: width of a slice, s; None for OCCURRENCES.
        slice_target: good share that makes a slice good; None unless TIMESLICES.
        independent: whether events come one by one, so that their share has an interval.
    """

    target: float
    period: float
    since: float | None = None
    method: Method = Method.OCCURRENCES
    slice_s: float | None = None
    slice_target: float | None = None
    independent: bool = True

    @property
    def allowed(self) -> float:
        """Share that may be bad."""
        # Twelve digits: 1 - 0.999 is not 0.001.
        return float(f"{1 - self.target:.12g}")

    def begin(self, at: float) -> float:
        """When the period that holds `at` began, seconds since the epoch."""
        return at - self.period if self.since is None else self.since


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted, step by step.

    Attributes:
        start: of the first step, seconds since the epoch.
        ends: of each step, ascending, shape (n,), seconds since the epoch.
        bad, total: events within each step, shape (n,). Counters are not read at the same instant, so `bad` may run ahead.
    """

    start: float
    ends: Floats
    bad: Floats
    total: Floats

    def __post_init__(self) -> None:
        shapes = {self.ends.shape, self.bad.shape, self.total.shape}
        if len(shapes) != 1 or self.ends.ndim != 1:
            raise EvidenceDamaged(f"counts have the shapes {sorted(shapes)}; ends, bad and total must be of one length")
        if len(self.ends) and (self.ends[0] <= self.start or np.any(np.diff(self.ends) <= 0)):
            raise EvidenceDamaged("the steps of the counts do not follow one another; sort them by time, each once")
        for name, values in (("bad", self.bad), ("total", self.total)):
            if not np.all(np.isfinite(values)) or np.any(values < 0):
                raise EvidenceDamaged(f"{name} holds a count that is negative or no number; read the samples again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget at an instant.

    Attributes:
        at: seconds since the epoch.
        covered: share of the period so far that the counts reach back, 0 to 1.
        bad, total: events, or slices, within the period.
        allowed: share that may be bad.
        spent: share of the budget that is used up; above 1 when overspent, 0 where nothing happened.
        interval: of `spent`, as if the period were a sample of what the service does; None as for `Burn`.
    """

    at: float
    covered: float
    bad: float
    total: float
    allowed: float
    spent: float
    interval: tuple[float, float] | None

    @property
    def left(self) -> float:
        """Share that is left, below zero when overspent."""
        return 1 - self.spent

    @property
    def good(self) -> float | None:
        """Share that was good; None where nothing happened."""
        return 1 - self.spent * self.allowed if self.total else None

    @property
    def few(self) -> bool:
        """Whether so little is allowed that a single bad event more or less decides."""
        return self.total * self.allowed < _FEW_BAD

    def reached(self, share: float) -> bool | None:
        """Whether so much is spent; None when it looks so, a single event decides, and the interval leaves doubt."""
        if self.spent < share:
            return False
        return None if self.few and self.interval is not None and self.interval[0] < share else True


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """How fast a budget goes: 1 spends it exactly within the period.

    Attributes:
        window: looked at, s.
        bad, total: events, or slices, within it.
        rate: 0 where nothing happened.
        interval: of the rate (beta-binomial confidence sequence); None where nothing happened, or events depend on each other.
    """

    window: float
    bad: float
    total: float
    rate: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When a budget will be spent if it goes on as in `window`, s from now; infinite when never, 0 when it is spent.

    Attributes:
        window: that stands for the future, s.
        expected: with the rate as measured.
        earliest, latest: with the ends of its interval.
    """

    window: float
    expected: float
    earliest: float
    latest: float


@dataclass(frozen=True, slots=True)
class Incident:
    """A span in which the budget went too fast.

    Attributes:
        start, end: from the first bad event to the last, seconds since the epoch.
        bad: events, or slices.
        cost: share of the budget of a whole period with such traffic.
    """

    start: float
    end: float
    bad: float
    cost: float

    @property
    def large(self) -> bool:
        """Whether it cost so much that it wants a postmortem."""
        return self.cost > INCIDENT_SHARE


class Account:
    """The budget of one objective, from its counts.

    Args:
        counts: at least back to the beginning of what is asked.
        goal: what is promised.
    """

    def __init__(self, counts: Counts, goal: Goal) -> None:
        self.goal = goal
        self.start = counts.start
        weighed = weigh(counts, goal)
        self._ends = weighed.ends
        self._bad = np.concatenate([[0.0], np.cumsum(weighed.bad)])
        self._total = np.concatenate([[0.0], np.cumsum(weighed.total)])

    def budget(self, at: float) -> Budget:
        """What is spent of the period that ends at `at`, seconds since the epoch."""
        since = self.goal.begin(at)
        bad, total = self._within(since, at)
        ratio = min(1.0, bad / total) if total else 0.0
        return Budget(
            at=at,
            covered=min(1.0, max(0.0, at - self.start) / (at - since)),
            bad=bad,
            total=total,
            allowed=self.goal.allowed,
            spent=ratio / self.goal.allowed,
            interval=self._interval(bad, total),
        )

    def burn(self, window: float, at: float) -> Burn:
        """How fast the budget goes in the `window` s before `at`."""
        bad, total = self._within(at - window, at)
        rate = min(1.0, bad / total) / self.goal.allowed if total else 0.0
        return Burn(window=window, bad=bad, total=total, rate=rate, interval=self._interval(bad, total))

    def sums(self, after: Floats, until: Floats) -> tuple[Floats, Floats]:
        """Bad and total events, or slices, later than each `after` and not later than each `until`, shapes (n,)."""
        first, last = (np.searchsorted(self._ends, edge, side="right") for edge in (after, until))
        return self._bad[last] - self._bad[first], self._total[last] - self._total[first]

    def rates(self, window: float, at: Floats) -> Floats:
        """The burn rate in the `window` s before each instant, shape (n,); 0 where nothing happened."""
        bad, total = self.sums(at - window, at)
        return self._ratio(bad, total) / self.goal.allowed

    def over(self, window: float, factor: float, at: Floats) -> npt.NDArray[np.bool_]:
        """Whether the burn rate is above a factor in the `window` s before each instant, shape (n,).

        Of independent events it must be so for sure: one failed request of ten is no burn of 100.
        """
        bad, total = self.sums(at - window, at)
        share = factor * self.goal.allowed
        return evident(bad, total, share) if self.goal.independent else np.asarray(bad > share * total)

    def spent(self, at: Floats) -> Floats:
        """The share of the budget that is spent at each instant of one period, shape (n,)."""
        bad, total = self.sums(np.array([self.goal.begin(moment) for moment in at]), at)
        return self._ratio(bad, total) / self.goal.allowed

    def forecast(self, window: float, at: float) -> Forecast:
        """When the budget will be spent if events and failures go on as in the `window` s before `at`."""
        burn = self.burn(window, at)
        low, high = burn.interval or (burn.rate, burn.rate)
        pace = burn.total / window
        return Forecast(
            window=window,
            expected=self._exhausted(burn.rate, pace, at),
            earliest=self._exhausted(high, pace, at),
            latest=self._exhausted(low, pace, at),
        )

    def incidents(self, window: float, factor: float, at: float) -> tuple[Incident, ...]:
        """The spans of the period before `at` in which the budget went faster than `factor`, in a window of `window` s.

        Two that are less than a window apart are one.
        """
        since = self.goal.begin(at)
        inside = self._ends[(self._ends > since) & (self._ends <= at)]
        burning = inside[self.over(window, factor, inside)]
        if not len(burning):
            return ()
        # Of the whole period, which the counts may not fill, at the traffic that they show.
        seen = min(1.0, (at - max(self.start, since)) / self.goal.period)
        allowed = self._within(since, at)[1] * self.goal.allowed / seen
        cuts = np.flatnonzero(np.diff(burning) > window) + 1
        return tuple(self._incident(run, window, factor, allowed) for run in np.split(burning, cuts))

    def _incident(self, run: Floats, window: float, factor: float, allowed: float) -> Incident:
        """The incident that burned at the instants of `run`, without what failed before and after it as ever."""
        inside = self._ends[(self._ends > run[0] - window) & (self._ends <= run[-1])]
        fast, short = inside[self.rates(window / _SHORT, inside) > factor], window / _SHORT
        if not len(fast):
            fast, short = run, window
        # It began where the excess of bad events begins to rise, and ended where it no longer does.
        excess = self._bad - factor * self.goal.allowed * self._total
        low, high = np.searchsorted(self._ends, [fast[0] - short, fast[0]], side="right")
        begin = int(low + np.argmin(excess[low : high + 1]))
        low, high = np.searchsorted(self._ends, [fast[-1] - short, fast[-1]], side="right")
        low = max(low, begin + 1)
        end = int(low + np.argmax(excess[low : high + 1]))
        start = self._ends[begin - 1] if begin else self.start
        if self.goal.slice_s is not None:  # slices without events are not there
            start = max(start, self._ends[begin] - self.goal.slice_s)
        bad = float(self._bad[end] - self._bad[begin])
        return Incident(float(start), float(self._ends[end - 1]), bad, float(bad / allowed))

    @staticmethod
    def _ratio(bad: Floats, total: Floats) -> Floats:
        return np.divide(np.minimum(bad, total), total, out=np.zeros_like(total), where=total > 0)

    def _within(self, after: float, until: float) -> tuple[float, float]:
        bad, total = self.sums(np.array([after]), np.array([until]))
        return float(bad[0]), float(total[0])

    def _interval(self, bad: float, total: float) -> tuple[float, float] | None:
        if not total or not self.goal.independent:
            return None
        allowed = self.goal.allowed
        low, high = proportion(min(bad, total), total, alpha=ALPHA, sharpest_at=_FEW_BAD / allowed)
        return float(low) / allowed, float(high) / allowed

    def _exhausted(self, rate: float, pace: float, at: float) -> float:
        # The first instant at which what is left in the period and what is yet to come exceed what they allow together.
        until = self.goal.begin(at) + self.goal.period - at if self.goal.since is not None else self.goal.period
        ahead = np.linspace(0.0, until, _FORECAST_STEPS + 1)
        since = np.array([self.goal.begin(at + later) for later in ahead])
        bad, total = self.sums(since, np.full_like(ahead, at))
        margin = bad - self.goal.allowed * total + (rate - 1) * self.goal.allowed * pace * ahead
        spent = np.flatnonzero((margin >= 0) & (bad + rate * pace * ahead > 0))
        if not len(spent):
            return math.inf
        index = int(spent[0])
        if not index:
            return 0.0
        before, after = margin[index - 1], margin[index]
        return float(ahead[index - 1] + (ahead[index] - ahead[index - 1]) * -before / (after - before))


def evident(bad: Floats, total: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Whether so many bad events show that more than `share` of all are bad, and are not chance, shape (n,).

    Chernoff's bound for a Poisson count: with mean m, at least b > m come with probability exp(b - m - b*log(b/m)) at most, and
    of independent events fewer still. At 5 % the lower end of the one-sided 95 % interval of the share lies above `share`.
    """
    expected = total * share
    more = (bad > expected) & (expected > 0)
    excess = np.divide(bad, expected, out=np.ones_like(expected), where=more)
    return more & (bad * np.log(excess) - bad + expected > EVIDENCE)


def weigh(counts: Counts, goal: Goal) -> Counts:
    """What a budgeting method counts: the events themselves, or slices of time with an event, at the end of their last step."""
    if goal.method is Method.OCCURRENCES or not len(counts.ends):
        return counts
    if goal.slice_s is None or (goal.method is Method.TIMESLICES and goal.slice_target is None):
        raise EvidenceDamaged(f"budgeting by {goal.method} needs a slice's width, and its target unless ratios are averaged")
    number = np.ceil(counts.ends / goal.slice_s)
    first = np.flatnonzero(np.concatenate([[True], np.diff(number) > 0]))
    bad, total = np.add.reduceat(counts.bad, first), np.add.reduceat(counts.total, first)
    ends = counts.ends[np.append(first[1:], len(number)) - 1]
    used = total > 0
    ratio = np.minimum(1.0, bad[used] / total[used])
    if goal.method is Method.TIMESLICES and goal.slice_target is not None:
        # Twelve digits: 1 - 0.9 must not make a slice bad whose good share is the target.
        ratio = (np.round(1 - ratio, 12) < goal.slice_target).astype(np.float64)
    return Counts(counts.start, ends[used], ratio, np.ones_like(ratio))
