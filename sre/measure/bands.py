"""Bands around distributions and quantiles that hold at all looks at once (Howard and Ramdas 2022, arXiv 1906.09712).

For a whole distribution against another. They need thousands of observations, and see little of a change in the tail alone: the
gate judges histograms edge by edge with `sre.measure.shares`, and these bands are what it is compared with.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit, zeta

from sre.errors import UsageError
from sre.measure.confseq import log_e_proportion

Floats = npt.NDArray[np.float64]

_A = 0.85
_ETA = 2.0
_S = 1.4
_D = 0.5
_SMALLEST_P = 1e-12


@functools.cache
def band_constant(alpha: float) -> float:
    """C of the band uniform in time and value (theorem 2): the least with total crossing probability `alpha`.

    Solves min over eta > 1 of 4 exp(-g C) (1 + 1 / ((g - 1) log eta)) = alpha, g = (2 / eta) (A - sqrt(2 (eta - 1) / C))^2.
    """

    def excess(c: float) -> float:
        best = minimize_scalar(_log_crossing, bounds=(1.0 + 1e-6, 1.0 + c * _A**2 / 2.0), args=(c,), method="bounded")
        return float(best.fun) - math.log(alpha)

    return float(brentq(excess, 5.0, 5.0 + 2.0 * math.log(4.0 / alpha), xtol=1e-10))


def band_width(t: npt.ArrayLike, *, alpha: float, start: float) -> Floats:
    """Half-width of the band around a distribution function after `t` observations, valid from `start` of them on (1.1).

    Infinite before `start`.
    """
    n = np.asarray(t, dtype=np.float64)
    ratio = np.maximum(n / start, 1.0)
    width = _A * np.sqrt((np.log1p(np.log(ratio)) + band_constant(alpha)) / np.maximum(n, 1.0))
    return np.where(n >= start, width, np.inf)


def slower_p(canary: npt.ArrayLike, control: npt.ArrayLike, *, start: float) -> float:
    """Sequential p-value of "the canary is stochastically no larger than the control" (1.2); keep the smallest over the looks.

    Args:
        canary: its observations per bucket, shape (buckets,).
        control: the same of the control.
        start: observations of each arm from which on the band holds.

    Returns:
        The smallest level that rejects; 1.0 when none does or an arm has fewer than `start`.
    """
    arms = [np.asarray(arm, dtype=np.float64) for arm in (canary, control)]
    sizes = np.array([arm.sum() for arm in arms])
    if sizes.min() < start:
        return 1.0
    gap = float(np.max(arms[1].cumsum() / sizes[1] - arms[0].cumsum() / sizes[0]))

    def short(log_alpha: float) -> float:
        return gap - float(np.sum(band_width(sizes, alpha=math.exp(log_alpha) / 2.0, start=start)))

    if short(0.0) <= 0.0:
        return 1.0
    if short(math.log(_SMALLEST_P)) > 0.0:
        return _SMALLEST_P
    return math.exp(float(brentq(short, math.log(_SMALLEST_P), 0.0, xtol=1e-9)))


def quantile_p(first: npt.ArrayLike, second: npt.ArrayLike, *, q: float, sharpest_at: float, alpha: float = 0.05) -> float:
    """Sequential p-value of "two arms have the same `q`-quantile" (1.4); keep the smallest over the looks.

    Args:
        first: observations of one arm, shape (n,).
        second: of the other.
        q: level of the quantile.
        sharpest_at: observations for which the test is tuned.
        alpha: level for which it is tuned; it holds at any.
    """
    arms = [np.sort(np.asarray(arm, dtype=np.float64)) for arm in (first, second)]
    values = np.unique(np.concatenate(arms))
    total = np.zeros(len(values))
    for arm in arms:
        middle = arm[max(math.ceil(q * len(arm)) - 1, 0)]
        below = np.where(
            values < middle, np.searchsorted(arm, values, side="right"), np.searchsorted(arm, values, side="left")
        ).astype(np.float64)
        # At its own quantile an arm has nothing against it.
        evidence = log_e_proportion(below, np.full_like(below, len(arm)), q, sharpest_at=sharpest_at, alpha=alpha)
        total += np.where(values == middle, 0.0, evidence)
    return min(1.0, math.exp(-float(total.min())))


def stitched(q: float, t: float, *, start: float, alpha: float) -> float:
    """How many observations the `q`-quantile's rank may be off after `t` of them, for all q and t (1.5, theorem 3).

    The level may move by the result over `t`. Narrow in the tails, where `band_width` is not.

    Raises:
        UsageError: q is no level of a quantile.
    """
    if not 0.0 < q < 1.0:
        raise UsageError(f"{q:g} is no level of a quantile; it lies strictly between 0 and 1")
    time = max(t, start)
    k1 = (_ETA**0.25 + _ETA**-0.25) / math.sqrt(2.0)
    k2 = (math.sqrt(_ETA) + 1.0) / 2.0
    c = (1.0 - 2.0 * q) / 3.0
    moved = q if q >= 0.5 else min(0.5, float(expit(logit(q) + 2.0 * _D * math.sqrt(start * _ETA / time))))
    variance = moved * (1.0 - moved)
    j = math.sqrt(time / start) * abs(float(logit(q))) / (2.0 * _D) + 1.0
    z = float(zeta(_S))
    depth = _S * math.log(math.log(_ETA * time / start)) + _S * math.log(j)
    depth += math.log(2.0 * z * (2.0 * z + 1.0) / (alpha * math.log(_ETA) ** _S))
    spread = math.sqrt(k1**2 * variance * time * depth + (k2 * c * depth) ** 2)
    return _D * math.sqrt(_ETA * time * variance / start) + spread + k2 * c * depth


def _log_crossing(eta: float, c: float) -> float:
    root = _A - math.sqrt(2.0 * (eta - 1.0) / c)
    g = 2.0 / eta * root**2
    if root <= 0.0 or g <= 1.0:
        return 1e3 + eta  # no bound; larger than any, and falling towards where there is one
    return math.log(4.0) - g * c + math.log1p(1.0 / ((g - 1.0) * math.log(eta)))
