"""Evidence from counts of events in two arms, or in several, that holds at whatever look one stops.

Given that an event happened, it happened in the canary with a probability that traffic as a whole cannot change, so swings of
traffic cancel (Lindon and Malek 2022, arXiv 2011.03567). The arm of each event is a coin, and a mixture of likelihood ratios over
the coins of the alternative is an e-process: the probability that it ever reaches 1/alpha is at most alpha while the null holds.
Events must come one by one; for bursts see `sre.measure.exchangeable`.

All results are natural logarithms, good for 1e9 events: the whole integral is a relative entropy with Stirling's corrections, and
a tail below 1e-100 comes from the continued fraction of the incomplete beta function (DLMF 8.17.22), whose leading factor cancels
against the likelihood under the null.

A few counts at once, as a look has them, are computed one by one in plain floats, many as arrays: the same formulas, held
together by a test. A recurrence from one event to the next would save the incomplete beta function but does not last: where the
events lie beyond the null it subtracts what is nearly equal. With 55 % of them the canary's at a null of 50 % it has no digit
left after 20,000.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, cython_special, gammaln

from sre.errors import UsageError

Floats = npt.NDArray[np.float64]
_Real = TypeVar("_Real", float, Floats)

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_SERIES_FROM = 16.0  # from here on four terms of Stirling's series are exact to 1e-14
_SMALLEST_TAIL = 1e-100
_MOST_TERMS = 10_000
_NUMBERS = (float, int, np.integer)
_FEW = 64  # so many are faster one by one than as an array


def limit_share(share: float, margin: float) -> float:
    """The canary's share of all events when its rate is exactly `1 + margin` times the control's.

    Args:
        share: the canary's share of what the two arms get together, within (0, 1).
        margin: tolerated relative excess, above -1.

    Raises:
        UsageError: one of the two is out of range.
    """
    if not 0.0 < share < 1.0 or margin <= -1.0:
        raise UsageError(f"share {share:g} and margin {margin:g} cannot be judged; a share lies in (0, 1), a margin above -1")
    weight = share * (1.0 + margin)
    return weight / (weight + 1.0 - share)


def log_e_above(s: npt.ArrayLike, f: npt.ArrayLike, *, share: float, margin: float = 0.0, prior: float = 10.0) -> Floats:
    """Evidence that the canary's rate of events is more than `1 + margin` times the control's (canary-slo.md 1.7, E+).

    Args:
        s: events of the canary so far, any shape.
        f: events of the control, shape that broadcasts with `s`.
        share: the canary's share of what the two arms get together.
        margin: tolerated relative excess.
        prior: events that the mixture's weight is worth; it lies around `share` and is cut off at the null.

    Returns:
        Logarithms, of the common shape; 0 without events.
    """
    return _log_e(_plain(f), _plain(s), _mirrored(share, margin, prior))


def log_e_below(s: npt.ArrayLike, f: npt.ArrayLike, *, share: float, margin: float = 0.0, prior: float = 10.0) -> Floats:
    """Evidence that the canary's rate of events is less than `1 + margin` times the control's (1.7, E-). As `log_e_above`."""
    return _log_e(_plain(s), _plain(f), _mixture(share, margin, prior))


def log_e_proportion_below(s: npt.ArrayLike, n: npt.ArrayLike, *, at_most: float, prior: float = 2.0) -> Floats:
    """Evidence that fewer than a share `at_most` of requests are bad.

    Args:
        s: bad requests so far, any shape.
        n: all requests, shape that broadcasts with `s`.
        at_most: the null is a share of this or more; within (0, 1).
        prior: bad requests that the mixture's weight is worth; it lies around half of `at_most` and is cut off there.

    Returns:
        Logarithms, of the common shape.

    Raises:
        UsageError: `at_most` is no share that can be tested.
    """
    if not 0.0 < at_most < 1.0:
        raise UsageError(f"an objective of at most {at_most:g} cannot be tested; it lies strictly between 0 and 1")
    a, b = prior, prior * (2.0 / at_most - 1.0)
    return _log_e(_plain(s), _plain(np.subtract(n, s)), _Mixture(a, b, at_most, _log_lower_one(a, b, at_most)))


def log_e_shares(counts: npt.ArrayLike, shares: npt.ArrayLike, *, prior: float = 100.0) -> Floats:
    """Evidence that events are split otherwise than planned (1.6): multinomial against a Dirichlet mixture around the plan.

    Args:
        counts: so far, shape (..., arms).
        shares: planned, shape (arms,); positive, any scale.
        prior: events that the mixture's weight is worth.

    Returns:
        Logarithms, shape (...).

    Raises:
        UsageError: a planned share is not positive.
    """
    planned = _array(shares)
    if not np.all(planned > 0.0):
        raise UsageError(f"planned shares {planned.tolist()} cannot be tested; each must be positive")
    planned = planned / planned.sum()
    before = prior * planned
    return log_beta_over(_array(counts) + before, planned) - log_beta_over(before, planned)


class Shares:
    """A pair of running evidence for two arms. The state is the two sums, so it is the same in whatever portions events came.

    Attributes:
        s, f: events of the canary and of the control so far.
    """

    def __init__(self, *, share: float, margin: float = 0.0, prior: float = 10.0) -> None:
        self._below, self._above = _mixture(share, margin, prior), _mirrored(share, margin, prior)
        self.s: float | Floats = 0.0
        self.f: float | Floats = 0.0

    def update(self, s: npt.ArrayLike, f: npt.ArrayLike) -> None:
        """Add events of the canary and of the control since the look before; arrays stand for tests side by side."""
        self.s = self.s + _plain(s)
        self.f = self.f + _plain(f)

    @property
    def log_e(self) -> Floats:
        """That the canary is worse than the margin allows."""
        return _log_e(self.f, self.s, self._above)

    @property
    def log_e_fine(self) -> Floats:
        """That the canary is within the margin."""
        return _log_e(self.s, self.f, self._below)

    @staticmethod
    def log_e_each(processes: Sequence[Shares]) -> Floats:
        """`log_e` of several of the same null and prior that took the same tests, or nothing yet, in one evaluation.

        Args:
            processes: at least one.

        Returns:
            Shape (processes, ...).
        """
        shape = np.broadcast_shapes(*{np.shape(process.s) for process in processes})
        s, f = np.empty((2, len(processes), *shape))
        for row, process in enumerate(processes):
            s[row], f[row] = process.s, process.f
        return _log_e(f, s, processes[0]._above)  # noqa: SLF001


class _Mixture(NamedTuple):
    """Weights t^(a-1) (1-t)^(b-1) of the alternatives from 0 to `at`, and the logarithm of `_log_lower` without events."""

    a: float
    b: float
    at: float
    before: float


@functools.lru_cache(maxsize=256)
def _mixture(share: float, margin: float, prior: float) -> _Mixture:
    """Of the alternatives below the null."""
    a, b, at = prior * share, prior * (1.0 - share), limit_share(share, margin)
    return _Mixture(a, b, at, _log_lower_one(a, b, at))


@functools.lru_cache(maxsize=256)
def _mirrored(share: float, margin: float, prior: float) -> _Mixture:
    """Of the alternatives above the null, the arms swapped."""
    b, a, at = prior * share, prior * (1.0 - share), 1.0 - limit_share(share, margin)
    return _Mixture(a, b, at, _log_lower_one(a, b, at))


def _log_e(s: float | Floats, f: float | Floats, mixture: _Mixture) -> Floats:
    """Evidence for the mixture against its end `at`."""
    a, b, at, before = mixture
    if isinstance(s, float) and isinstance(f, float):
        return np.asarray(_log_lower_one(s + a, f + b, at) - before)
    more, less = np.broadcast_arrays(s + a, f + b)
    if more.size > _FEW:
        return _log_lower(more, less, at) - before
    ones = [_log_lower_one(x, y, at) - before for x, y in zip(more.ravel().tolist(), less.ravel().tolist(), strict=True)]
    return np.array(ones).reshape(more.shape)


def _array(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _plain(values: npt.ArrayLike) -> float | Floats:
    """A single number as a float, which is much faster to compute with; else an array."""
    return float(values) if isinstance(values, _NUMBERS) else _array(values)


def _log_lower_one(a: float, b: float, at: float) -> float:
    """Log of the integral of t^(a-1) (1-t)^(b-1) from 0 to `at`, over at^a (1-at)^b."""
    inner: float = cython_special.betainc(a, b, at)
    if inner < _SMALLEST_TAIL:
        return math.log(_fraction(a, b, at)) - math.log(a)
    n = a + b
    entropy = a * math.log(a / (n * at)) + b * math.log(b / (n * (1.0 - at)))
    stirling = _stirling_one(a) + _stirling_one(b) - _stirling_one(n) + _HALF_LOG_TWO_PI
    return entropy + stirling + math.log(inner * math.sqrt(n / a / b))


def _log_lower(a: Floats, b: Floats, at: float) -> Floats:
    """The same for arrays of one shape."""
    inner = np.asarray(betainc(a, b, at))
    far = inner < _SMALLEST_TAIL
    whole = log_beta_over(np.stack([a, b], axis=-1), np.array([at, 1.0 - at]))
    result = np.asarray(whole + np.log(np.where(far, 1.0, inner)))
    result[far] = [math.log(_fraction(x, y, at)) - math.log(x) for x, y in zip(a[far].tolist(), b[far].tolist(), strict=True)]
    return result


def log_beta_over(alphas: Floats, shares: Floats) -> Floats:
    """Log of the multivariate beta function B(alphas) over the product of shares^alphas, without cancellation.

    Args:
        alphas: positive, shape (..., arms).
        shares: sum to 1 over the arms, shape that broadcasts with `alphas`.
    """
    total = alphas.sum(axis=-1)
    entropy = (alphas * np.log(alphas / (total[..., None] * shares))).sum(axis=-1)
    stirling = (_stirling(alphas) - 0.5 * np.log(alphas)).sum(axis=-1) - _stirling(total) + 0.5 * np.log(total)
    whole: Floats = entropy + stirling + (alphas.shape[-1] - 1) * _HALF_LOG_TWO_PI
    return whole


def _stirling(x: Floats) -> Floats:
    """What log Gamma(x) exceeds (x - 1/2) log x - x + log(2 pi) / 2 by (DLMF 5.11.1)."""
    exact = gammaln(x) - (x - 0.5) * np.log(x) + x - _HALF_LOG_TWO_PI
    return np.asarray(np.where(x >= _SERIES_FROM, _series(np.maximum(x, _SERIES_FROM)), exact))


def _stirling_one(x: float) -> float:
    """The same for one."""
    return _series(x) if x >= _SERIES_FROM else math.lgamma(x) - (x - 0.5) * math.log(x) + x - _HALF_LOG_TWO_PI


def _series(x: _Real) -> _Real:
    y = 1.0 / (x * x)
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 * y) * y) * y) / x


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b) by Lentz's method, for x far below a / (a + b), where it converges in a few terms."""
    tiny = 1e-300
    c = 1.0
    h = d = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    for m in range(1, _MOST_TERMS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / ((1.0 + numerator * d) or tiny)
            c = (1.0 + numerator / c) or tiny
            factor = c * d
            h *= factor
        if abs(factor - 1.0) < 1e-15:
            break
    return h
