"""Evidence from counts of events in two arms, or in several, that holds at whatever look one stops.

Given that an event happened, it happened in the canary with a probability that traffic as a whole cannot change, so swings of
traffic cancel (Lindon and Malek 2022, arXiv 2011.03567). The arm of each event is a coin, and a mixture of likelihood ratios over
the coins of the alternative is an e-process: the probability that it ever reaches 1/alpha is at most alpha while the null holds.
Events must come one by one; for bursts see `sre.measure.exchangeable`.

All results are natural logarithms, good for 1e9 events: the whole integral is a relative entropy with Stirling's corrections, and
a tail below 1e-100 comes from the continued fraction of the incomplete beta function (DLMF 8.17.22), whose leading factor cancels
against the likelihood under the null.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, gammaln

from sre.errors import UsageError

Floats = npt.NDArray[np.float64]

_HALF_LOG_TWO_PI = 0.5 * np.log(2.0 * np.pi)
_SERIES_FROM = 16.0  # from here on four terms of Stirling's series are exact to 1e-14
_SMALLEST_TAIL = 1e-100
_MOST_TERMS = 10_000


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
    at = limit_share(share, margin)
    a, b = prior * share, prior * (1.0 - share)
    return _log_upper(_array(s) + a, _array(f) + b, at) - _log_upper(_array(a), _array(b), at)


def log_e_below(s: npt.ArrayLike, f: npt.ArrayLike, *, share: float, margin: float = 0.0, prior: float = 10.0) -> Floats:
    """Evidence that the canary's rate of events is less than `1 + margin` times the control's (1.7, E-). As `log_e_above`."""
    at = limit_share(share, margin)
    a, b = prior * share, prior * (1.0 - share)
    return _log_lower(_array(s) + a, _array(f) + b, at) - _log_lower(_array(a), _array(b), at)


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
    bad, good = _array(s), _array(n) - _array(s)
    return _log_lower(bad + a, good + b, at_most) - _log_lower(_array(a), _array(b), at_most)


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
        limit_share(share, margin)
        self.s = np.zeros(())
        self.f = np.zeros(())
        self._share, self._margin, self._prior = share, margin, prior

    def update(self, s: npt.ArrayLike, f: npt.ArrayLike) -> None:
        """Add events of the canary and of the control since the look before; arrays stand for tests side by side."""
        self.s = self.s + _array(s)
        self.f = self.f + _array(f)

    @property
    def log_e(self) -> Floats:
        """That the canary is worse than the margin allows."""
        return log_e_above(self.s, self.f, share=self._share, margin=self._margin, prior=self._prior)

    @property
    def log_e_fine(self) -> Floats:
        """That the canary is within the margin."""
        return log_e_below(self.s, self.f, share=self._share, margin=self._margin, prior=self._prior)


def _array(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _log_lower(a: Floats, b: Floats, at: float) -> Floats:
    """Log of the integral of t^(a-1) (1-t)^(b-1) from 0 to `at`, over at^a (1-at)^b."""
    a, b = np.broadcast_arrays(a, b)
    inner = np.asarray(betainc(a, b, at))
    far = inner < _SMALLEST_TAIL
    whole = log_beta_over(np.stack([a, b], axis=-1), np.array([at, 1.0 - at]))
    result = np.asarray(whole + np.log(np.where(far, 1.0, inner)))
    if far.any():
        result[far] = np.log(_fraction(a[far], b[far], at)) - np.log(a[far])
    return result


def _log_upper(a: Floats, b: Floats, at: float) -> Floats:
    """The same from `at` to 1."""
    return _log_lower(b, a, 1.0 - at)


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
    y = np.maximum(x, _SERIES_FROM)
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / y**2) / y**2) / y**2) / y
    exact = gammaln(x) - (x - 0.5) * np.log(x) + x - _HALF_LOG_TWO_PI
    return np.asarray(np.where(x >= _SERIES_FROM, series, exact))


def _fraction(a: Floats, b: Floats, x: float) -> Floats:
    """The continued fraction of I_x(a, b) by Lentz's method, for x far below a / (a + b), where it converges in a few terms."""
    tiny = 1e-300
    c = np.ones_like(a)
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    h = d.copy()
    for m in range(1, _MOST_TERMS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / np.where(np.abs(d) < tiny, tiny, d)
            c = 1.0 + numerator / np.where(np.abs(c) < tiny, tiny, c)
            factor = c * d
            h = h * factor
        if np.all(np.abs(factor - 1.0) < 1e-15):
            break
    return h
