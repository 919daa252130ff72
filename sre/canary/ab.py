"""Two versions by a business metric: which one does better, with intervals that hold however often one looks.

The error rate covers all looks together, so a test may be read every hour and ended at the first decision. Before anything is
compared, the split of users is held against the plan: where it is wrong, the two arms did not get the same kind of users.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sre.errors import UsageError
from sre.measure.confseq import bounded_mean, proportion
from sre.measure.shares import log_e_shares

SPLIT_ALPHA = 0.001  # probability at most of ever calling a right split wrong
_MOST = 1000.0  # times the present data; beyond it "how long" is no answer


@dataclass(frozen=True, slots=True)
class Arm:
    """One version.

    Attributes:
        name: for people.
        trials: users or requests so far; of a bounded value, 0 where nobody counted them.
        successes: of them; None for a bounded value.
        values: of a bounded value, scaled to 0..1, one per moment; empty for a ratio.
    """

    name: str
    trials: int
    successes: int | None = None
    values: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Share of successes, or mean value."""
        return self.successes / self.trials if self.successes is not None else sum(self.values) / len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was agreed before the first look.

    Attributes:
        alpha: probability at most of ever naming a winner where there is none, or calling a difference small that is not.
        split: share of users that the second arm is to get.
        worth: a difference smaller than this, either way, does not matter; 0: every one does.
        sharpest_at: trials per arm at which the intervals are to be narrowest.
    """

    alpha: float = 0.05
    split: float = 0.5
    worth: float = 0.0
    sharpest_at: float = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the data show.

    Attributes:
        difference: second arm minus first.
        low, high: interval of it that holds at all looks.
        winner: name of the arm that does better; None while none is known to.
        alike: the difference is known to be too small to matter.
        more: how many times the present data a decision takes if all goes on like this; None when decided, infinite when more
            than a thousand times.
        log_e_split: evidence that users are split otherwise than planned.
        split: sentence about a wrong split, which voids the comparison; empty when nothing speaks against it.
    """

    difference: float
    low: float
    high: float
    winner: str | None
    alike: bool
    more: float | None
    log_e_split: float
    split: str

    @property
    def decided(self) -> bool:
        """Whether the test can be ended."""
        return not self.split and (self.winner is not None or self.alike)


def compare(first: Arm, second: Arm, terms: Terms) -> Comparison:
    """Compare two arms.

    Raises:
        UsageError: an arm has no data, or the two do not fit.
    """
    for arm in (first, second):
        if not (arm.trials or arm.values):
            raise UsageError(f"arm {arm.name!r} has no data; check the name of the arm and the span of time")
    interval = _ratio(first, second, terms) if first.successes is not None else _bounded(first, second, terms.alpha)
    low, high = interval(1.0)
    evidence, split = _split(first, second, terms.split)
    decided = _decided(low, high, terms.worth)
    return Comparison(
        difference=second.mean - first.mean,
        low=low,
        high=high,
        winner=(second if low > 0 else first).name if not split and (low > 0 or high < 0) else None,
        alike=not split and -terms.worth < low and high < terms.worth,
        more=None if decided else _more(interval, terms.worth),
        log_e_split=evidence,
        split=split,
    )


def _decided(low: float, high: float, worth: float) -> bool:
    return low > 0 or high < 0 or (-worth < low and high < worth)


def _split(first: Arm, second: Arm, planned: float) -> tuple[float, str]:
    counts = [first.trials, second.trials]
    if not sum(counts):
        return 0.0, ""
    evidence = float(log_e_shares(counts, [1.0 - planned, planned]))
    if evidence < -math.log(SPLIT_ALPHA):
        return evidence, ""
    found = second.trials / sum(counts)
    return evidence, (
        f"users are split {1 - found:.2%} to {found:.2%} ({first.name} to {second.name}), planned {1 - planned:.2%} to"
        f" {planned:.2%}; the arms cannot be compared, look at what assigns users and what loses them"
    )


Interval = Callable[[float], tuple[float, float]]


def _ratio(first: Arm, second: Arm, terms: Terms) -> Interval:
    """Two confidence sequences of alpha/2 each, taken together."""
    successes = np.array([first.successes, second.successes], dtype=np.float64)
    trials = np.array([first.trials, second.trials], dtype=np.float64)

    def interval(times: float) -> tuple[float, float]:
        low, high = proportion(successes * times, trials * times, alpha=terms.alpha / 2, sharpest_at=terms.sharpest_at)
        return float(low[1] - high[0]), float(high[1] - low[0])

    return interval


def _bounded(first: Arm, second: Arm, alpha: float) -> Interval:
    """One confidence sequence of the differences, moment by moment, so that what changes for both arms cancels."""
    if len(first.values) != len(second.values):
        raise UsageError(
            f"{first.name!r} has {len(first.values)} values and {second.name!r} {len(second.values)};"
            " give one of each arm for every moment"
        )
    halves = (1.0 + np.array(second.values) - np.array(first.values)) / 2.0

    def interval(times: float) -> tuple[float, float]:
        repeated = np.resize(halves, math.ceil(len(halves) * times))
        low, high = bounded_mean(repeated, alpha=alpha)
        return float(2.0 * low[-1] - 1.0), float(2.0 * high[-1] - 1.0)

    return interval


def _more(interval: Interval, worth: float) -> float:
    """How many times the data, to a hundredth; the interval narrows with them, so halving finds it."""
    low, high = 1.0, 2.0
    while not _decided(*interval(high), worth):
        low, high = high, 2.0 * high
        if high > _MOST:
            return math.inf
    while high - low > 0.01 * low:
        middle = (low + high) / 2.0
        low, high = (low, middle) if _decided(*interval(middle), worth) else (middle, high)
    return high


def totals(rows: Sequence[tuple[str, int, int]], names: tuple[str, str]) -> tuple[Arm, Arm]:
    """The two arms of a ratio from rows of (arm, successes, trials)."""
    sums = {name: [0, 0] for name in names}
    for name, successes, trials in rows:
        sums[name][0] += successes
        sums[name][1] += trials
    first, second = (Arm(name, sums[name][1], sums[name][0]) for name in names)
    return first, second
