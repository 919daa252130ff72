"""What a cell of the study measures: a value, how far Monte Carlo may have missed it, and on how many runs it rests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, binomtest

from tests.studies.canary.simulate import NEVER
from tests.studies.canary.traffic import Ints

CONFIDENCE = 0.99  # of every bound, one-sided


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value.

    Attributes:
        value: measured; infinite for a median that half of the runs did not reach.
        low, high: one-sided bounds of 99 % each, from the binomial distribution; equal to the value where nothing is random.
        n: runs.
    """

    value: float
    low: float
    high: float
    n: int


def share(hits: int, n: int) -> Figure:
    """A probability, with the bounds of Clopper and Pearson (1934)."""
    low = binomtest(hits, n, alternative="greater").proportion_ci(CONFIDENCE).low
    high = binomtest(hits, n, alternative="less").proportion_ci(CONFIDENCE).high
    return Figure(hits / n, float(low), float(high), n)


def reached(at: Ints) -> Figure:
    """The share of runs that ever reached the threshold."""
    return share(int((at != NEVER).sum()), len(at))


def median(values: npt.ArrayLike) -> Figure:
    """The median and its bounds, from the order of the values alone; infinite values are runs that did not get there."""
    found = np.sort(np.asarray(values, dtype=np.float64))
    n = len(found)
    rank = int(binom.ppf(1 - CONFIDENCE, n, 0.5))  # so many values lie below the median, but for 1 %
    low, high = (found[rank - 1], found[-rank]) if rank else (-math.inf, math.inf)
    return Figure(float(np.quantile(found, 0.5, method="higher")), float(low), float(high), n)


def times(at: Ints, every: float) -> Figure:
    """The median of looks, in units of `every`; what never came is infinite."""
    return median(np.where(at == NEVER, math.inf, at * every))


def exact(value: float, n: int = 1) -> Figure:
    """A value without chance."""
    return Figure(value, value, value, n)
