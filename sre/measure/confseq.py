"""Confidence sequences: intervals that hold at all looks at once, with probability `1 - alpha`.

Each is the set of values against which there is less than 1/alpha of evidence. Intervals of successive looks may be intersected.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sre.measure.shares import log_beta_over

Floats = npt.NDArray[np.float64]

_HALVINGS = 50
_SMALLEST = 1e-12  # of a proportion; less is not told from 0
_FURTHEST = 40.0  # of a log rate ratio: e^40 times as often is not told from infinitely often


def proportion(s: npt.ArrayLike, n: npt.ArrayLike, *, alpha: float, sharpest_at: float) -> tuple[Floats, Floats]:
    """Interval of a proportion (canary-slo.md 1.3; Howard et al. 2021, beta-binomial mixture around each value).

    Args:
        s: successes so far, any shape.
        n: trials so far, at least 1, shape that broadcasts with `s`.
        alpha: probability at most of ever missing the true value.
        sharpest_at: trials at which the interval is to be narrowest.

    Returns:
        Lower and upper ends, of the common shape.
    """
    good, trials = np.broadcast_arrays(np.asarray(s, dtype=np.float64), np.asarray(n, dtype=np.float64))

    def outside(q: Floats) -> npt.NDArray[np.bool_]:
        return log_e_proportion(good, trials, q, sharpest_at=sharpest_at, alpha=alpha) >= math.log(1.0 / alpha)

    inside = np.clip((good + 0.5) / (trials + 1.0), _SMALLEST, 1.0 - _SMALLEST)
    lower = _edge(outside, np.full_like(inside, _SMALLEST), inside)
    upper = _edge(outside, np.full_like(inside, 1.0 - _SMALLEST), inside)
    return np.where(lower <= _SMALLEST, 0.0, lower), np.where(upper >= 1.0 - _SMALLEST, 1.0, upper)


def log_e_proportion(s: Floats, n: Floats, q: npt.ArrayLike, *, sharpest_at: float, alpha: float = 0.05) -> Floats:
    """Evidence against the proportion `q`, in either direction; q strictly between 0 and 1."""
    at = np.asarray(q, dtype=np.float64)
    odds = at * (1.0 - at)
    depth = 2.0 * math.log(1.0 / alpha)
    r = np.maximum(sharpest_at * odds / (depth + math.log1p(depth)) - odds, odds / 1000.0)
    before = np.stack(np.broadcast_arrays(r / (1.0 - at), r / at), axis=-1)
    shares = np.stack([at, 1.0 - at], axis=-1)
    return log_beta_over(before + np.stack([s, n - s], axis=-1), shares) - log_beta_over(before, shares)


def log_rate_ratio(
    s: npt.ArrayLike, f: npt.ArrayLike, *, share: float, alpha: float, prior: float = 10.0
) -> tuple[Floats, Floats]:
    """Interval of the logarithm of the canary's rate of events over the control's (1.6), for events that come one by one.

    Args:
        s: events of the canary so far, any shape.
        f: events of the control, shape that broadcasts with `s`.
        share: the canary's share of what the two arms get together.
        alpha: probability at most of ever missing the true value.
        prior: events that the mixture's weight is worth.

    Returns:
        Lower and upper ends, of the common shape; infinite where nothing bounds them.
    """
    c, k = np.broadcast_arrays(np.asarray(s, dtype=np.float64), np.asarray(f, dtype=np.float64))
    before = prior * np.array([share, 1.0 - share])
    planned = math.log(share / (1.0 - share))
    after = before + np.stack([c, k], axis=-1)
    even = np.array([0.5, 0.5])  # any reference: it cancels
    base = log_beta_over(after, even) - log_beta_over(before, even) + (c + k) * math.log(0.5) - math.log(1.0 / alpha)

    def outside(ratio: Floats) -> npt.NDArray[np.bool_]:
        odds = ratio + planned
        return np.asarray(base + c * np.logaddexp(0.0, -odds) + k * np.logaddexp(0.0, odds) >= 0.0)

    likeliest = np.clip(np.log((c + before[0]) / (k + before[1])) - planned, -_FURTHEST, _FURTHEST)
    ends = [_edge(outside, np.full_like(likeliest, far), likeliest) for far in (-_FURTHEST, _FURTHEST)]
    lower, upper = (np.where(np.abs(end) >= _FURTHEST, np.copysign(np.inf, end), end) for end in ends)
    return np.asarray(lower), np.asarray(upper)


def bounded_mean(values: npt.ArrayLike, *, alpha: float) -> tuple[Floats, Floats]:
    """Interval of the mean of values in 0..1 whose expectation given the past is constant (1.8).

    The predictable plug-in empirical Bernstein bound of Waudby-Smith and Ramdas (2024, arXiv 2010.09686, theorem 2).

    Args:
        values: in order, shape (looks, ...); further axes are series side by side.
        alpha: probability at most of ever missing the true mean, half of it at each end.

    Returns:
        Lower and upper ends at each look, intersected so far, shape of `values`.
    """
    x = np.asarray(values, dtype=np.float64)
    t = np.arange(1.0, len(x) + 1.0).reshape(-1, *[1] * (x.ndim - 1))
    mean = (0.5 + x.cumsum(axis=0)) / (t + 1.0)
    variance = (0.25 + ((x - mean) ** 2).cumsum(axis=0)) / (t + 1.0)
    mean_before = np.concatenate([np.full_like(x[:1], 0.5), mean[:-1]])
    variance_before = np.concatenate([np.full_like(x[:1], 0.25), variance[:-1]])
    stake = np.minimum(np.sqrt(2.0 * math.log(2.0 / alpha) / (variance_before * t * np.log1p(t))), 0.5)
    staked = stake.cumsum(axis=0)
    spent = math.log(2.0 / alpha) + ((x - mean_before) ** 2 * (-np.log1p(-stake) - stake)).cumsum(axis=0)
    centre = (stake * x).cumsum(axis=0) / staked
    lower = np.maximum.accumulate(np.maximum(centre - spent / staked, 0.0), axis=0)
    upper = np.minimum.accumulate(np.minimum(centre + spent / staked, 1.0), axis=0)
    return lower, upper


def _edge(outside: Callable[[Floats], npt.NDArray[np.bool_]], far: Floats, near: Floats) -> Floats:
    """Where a set that holds `near` ends towards `far`, to the outside; `far` itself when every halving stays within."""
    out, within = far.copy(), near.copy()
    for _ in range(_HALVINGS):
        middle = (out + within) / 2.0
        beyond = outside(middle)
        out, within = np.where(beyond, middle, out), np.where(beyond, within, middle)
    return out
