"""Evidence from events that come several at once: retries, one bad node, a stalled machine.

Two arms of equal size that run the same version are exchangeable: given what both together show in an interval, either could have
been either, whatever happens within the interval and however events hang together. Only what joins intervals must not prefer an
arm, so an interval is to be longer than a burst. A bet on who is ahead is then fair, and its running product is an e-process
(canary-slo.md 1.9). The stake may depend on everything that stays the same when the arms are swapped, the current interval
included.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sre.errors import UsageError
from sre.measure.evidence import log_mean
from sre.measure.shares import log_e_below

Floats = npt.NDArray[np.float64]

# How many times as many bursts the canary may have, and the weight of a bet on each. The last two were chosen by simulation for
# ratios of 2 and 5 in bursts of 5; the first finds small excesses where there is much to count.
_LOG_RATIOS = np.log([1.2, 2.5, 6.0])
_WEIGHTS = np.array([0.05, 0.65, 0.3])
LEAST_LOOKS = 20  # with fewer intervals their dispersion is too uncertain to promote on: 15 % false promotions at 5 %, not 3 %


class Exchangeable:
    """Running evidence from intervals of two arms of equal size; arrays stand for tests side by side.

    The stake on an interval is that of a likelihood ratio for bursts: a first event counts one burst and each further event
    `_bursts_per_event` more, which is estimated from how often an arm had nothing. Few large bursts are so compared by their
    number, and events that come one by one by theirs.

    Attributes:
        log_e: that the canary has more. A theorem, for arms that are exchangeable in each interval given those before.
    """

    def __init__(self, *, margin: float = 1.0) -> None:
        """Args: margin: relative excess of the canary's events that `log_e_fine` rules out."""
        self._margin = margin
        self._looks = 0
        self._logs: Floats = np.zeros(len(_LOG_RATIOS))
        self._empty: Floats = np.zeros(())  # arms with nothing in an interval
        self._canary: Floats = np.zeros(())
        self._control: Floats = np.zeros(())
        self._squares: Floats = np.zeros(())
        self._largest: Floats = np.zeros(())

    def update(self, canary: npt.ArrayLike, control: npt.ArrayLike, /) -> None:
        """Take the events of one interval."""
        c, f = np.asarray(canary, dtype=np.float64), np.asarray(control, dtype=np.float64)
        self._looks += 1
        self._empty = self._empty + (c == 0.0) + (f == 0.0)
        self._canary, self._control = self._canary + c, self._control + f
        self._squares = self._squares + (c - f) ** 2
        self._largest = np.maximum(self._largest, np.abs(c - f))
        more = self._bursts_per_event()
        ahead = _bursts(c, more) - _bursts(f, more)
        # The fair bet 1 + tanh(log(ratio) ahead / 2), written so that it never rounds to zero.
        self._logs = self._logs + math.log(2.0) - np.logaddexp(0.0, -np.multiply.outer(ahead, _LOG_RATIOS))

    @property
    def log_e(self) -> Floats:
        """That the canary has more."""
        return log_mean(self._logs, _WEIGHTS)

    @property
    def dispersion(self) -> Floats:
        """Variance over mean of the difference, as if the largest one were to come once more; never below 1."""
        events = self._canary + self._control + self._largest
        return np.maximum(1.0, (self._squares + self._largest**2) / np.maximum(events, 1.0))

    @property
    def log_e_fine(self) -> Floats:
        """That the canary's rate is below `1 + margin` times the control's: counts divided by the dispersion.

        Simulated, not a theorem: the dispersion is estimated from the same intervals. 0 before `LEAST_LOOKS` of them.
        """
        if self._looks < LEAST_LOOKS:
            return np.zeros_like(self._canary)
        by = self.dispersion
        return log_e_below(self._canary / by, self._control / by, share=0.5, margin=self._margin)

    def _bursts_per_event(self) -> Floats:
        """How many bursts an event after an arm's first one in an interval stands for; within 0..1.

        With e the share of empty arms, a Poisson number of bursts has mean -log e, and -log(e) / (1 - e) where there is one.
        """
        arms = 2.0 * (self._looks + 1)  # one empty and one full arm are taken for granted
        empty = (self._empty + 1.0) / arms
        further = -np.log(empty) / (1.0 - empty) - 1.0
        events = (self._canary + self._control) / (arms * (1.0 - empty)) - 1.0
        return np.asarray(further / np.maximum(events, further))


def _bursts(events: Floats, more: Floats) -> Floats:
    return np.asarray((events > 0.0) + more * np.maximum(events - 1.0, 0.0))


def slower(canary: npt.ArrayLike, control: npt.ArrayLike, *, shift: int = 1) -> tuple[Floats, Floats]:
    """Observations above each edge, the control's `shift` edges lower, so that a slowdown of as many buckets is tolerated.

    Feed both to `Exchangeable.update`; a canary whose observations moved up by at most `shift` buckets is then not ahead.

    Args:
        canary: its observations per bucket, shape (..., buckets), the last one without an upper edge.
        control: the same of the control.
        shift: buckets.

    Returns:
        Counts of the canary and of the control, shape (..., buckets - 1 - shift).

    Raises:
        UsageError: there are not more edges than `shift`.
    """
    above = [np.asarray(arm, dtype=np.float64)[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:] for arm in (canary, control)]
    edges = above[0].shape[-1]
    if not 0 <= shift < edges:
        raise UsageError(f"a shift of {shift} buckets leaves no edge of {edges} to compare; take fewer")
    return above[0][..., shift:], above[1][..., : edges - shift]
