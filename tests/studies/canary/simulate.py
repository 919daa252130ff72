"""Runs evidence over traffic, many runs at once, until it reaches a threshold.

Evidence from counts alone depends on two sums, so the sums at which it reaches a threshold are found once, with the gate's own
functions, and a look costs a comparison. Everything else goes through the gate's processes look by look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sre.judges.canary.arms import PRIOR_WORSE
from sre.measure.evidence import Evidence
from sre.measure.shares import limit_share, log_e_above, log_e_below
from tests.studies.canary.traffic import Floats, Ints

Bools = npt.NDArray[np.bool_]
NEVER = -1


class Test(Protocol):
    """Something that can say yes once; arrays over runs."""

    def __call__(self, canary: Ints, control: Ints, /) -> Bools:
        """Take one look; whether the threshold is reached now, shape (runs,)."""
        ...


def first(looks: Iterable[tuple[Ints, Ints]], test: Test) -> Ints:
    """The look, from 1, at which each run's test first said yes; NEVER where it did not. It ends when all have."""
    at: Ints | None = None
    for number, (canary, control) in enumerate(looks, 1):
        hit = test(canary, control)
        if at is None:
            at = np.full(hit.shape, NEVER, dtype=np.int64)
        at[(at == NEVER) & hit] = number
        if (at != NEVER).all():
            break
    if at is None:
        raise ValueError("there is no look")
    return at


class Above:
    """Whether evidence that the canary is worse has reached a threshold.

    Args:
        threshold: logarithm.
        share: the canary's share of what the two arms get together.
        margin: tolerated relative excess.
        most: events of both arms that can come; beyond it the functions are asked themselves.
    """

    def __init__(self, threshold: float, *, share: float, margin: float = 0.0, most: int = 20_000) -> None:
        self._log_e: Callable[[npt.ArrayLike, npt.ArrayLike], Floats] = lambda s, f: log_e_above(
            s, f, share=share, margin=margin, prior=PRIOR_WORSE
        )
        self._threshold = threshold
        self.least = _least(lambda s, f: self._log_e(s, f) >= threshold, most)
        self.s: Ints = np.zeros((), dtype=np.int64)
        self.n: Ints = np.zeros((), dtype=np.int64)

    def __call__(self, canary: Ints, control: Ints) -> Bools:
        self.s = self.s + canary
        self.n = self.n + canary + control
        if int(self.n.max()) >= len(self.least):
            return np.asarray(self._log_e(self.s, self.n - self.s) >= self._threshold)
        return np.asarray(self.s >= self.least[self.n])


class Below:
    """Whether evidence that the canary is within a margin has reached a threshold. As `Above`."""

    def __init__(self, threshold: float, *, share: float, margin: float, most: int = 20_000) -> None:
        self._log_e: Callable[[npt.ArrayLike, npt.ArrayLike], Floats] = lambda s, f: log_e_below(s, f, share=share, margin=margin)
        self._threshold = threshold
        self.most = _least(lambda s, f: self._log_e(s, f) < threshold, most) - 1
        self.s: Ints = np.zeros((), dtype=np.int64)
        self.n: Ints = np.zeros((), dtype=np.int64)

    def __call__(self, canary: Ints, control: Ints) -> Bools:
        self.s = self.s + canary
        self.n = self.n + canary + control
        if int(self.n.max()) >= len(self.most):
            return np.asarray(self._log_e(self.s, self.n - self.s) >= self._threshold)
        return np.asarray(self.s <= self.most[self.n])


class Wald:
    """Wald's test (1945) of equal rates against one known ratio: no test of the same error rate is faster on average there.

    Args:
        threshold: logarithm.
        share: the canary's share of what the two arms get together.
        ratio: of the canary's rate over the control's.
    """

    def __init__(self, threshold: float, *, share: float, ratio: float) -> None:
        theta = limit_share(share, ratio - 1.0)
        self._threshold = threshold
        self._steps = np.log([theta / share, (1.0 - theta) / (1.0 - share)])
        self._log_e: Floats = np.zeros(())

    def __call__(self, canary: Ints, control: Ints) -> Bools:
        self._log_e = self._log_e + self._steps[0] * canary + self._steps[1] * control
        return np.asarray(self._log_e >= self._threshold)


class Reached:
    """Whether one of the gate's own processes has reached a threshold.

    Args:
        process: arrays over runs.
        threshold: logarithm.
        log_e: what of it is compared; its `log_e` when left out.
    """

    def __init__(self, process: Evidence, threshold: float, log_e: Callable[[], Floats] | None = None) -> None:
        self.process = process
        self._threshold = threshold
        self._log_e = log_e or (lambda: process.log_e)

    def __call__(self, canary: Ints, control: Ints) -> Bools:
        self.process.update(canary, control)
        return np.asarray(self._log_e() >= self._threshold)


def _least(holds: Callable[[Ints, Ints], Bools], most: int) -> Ints:
    """For n = 0 .. most events in all, the least s of the canary from which `holds(s, n - s)`; n + 1 where none does.

    The evidence is a mixture of likelihood ratios that all grow with s (or all fall), so one bisection finds it.
    """
    n = np.arange(most + 1)
    low, high = np.zeros_like(n), n + 1
    while (low < high).any():
        middle = np.minimum((low + high) // 2, n)
        found = holds(middle, n - middle)
        open_ = low < high
        high = np.where(open_ & found, middle, high)
        low = np.where(open_ & ~found, middle + 1, low)
    return high
