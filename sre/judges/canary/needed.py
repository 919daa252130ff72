"""How many events a decision takes: what a plan must be able to gather."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from sre.measure.shares import log_e_below, log_e_proportion_below

_MOST = 1e12


@lru_cache(maxsize=1024)
def events_needed(margin: float, share: float, beta: float) -> float:
    """Events of both arms by which a canary as good as its control has shown to be within the margin.

    They are split as the plan splits traffic; about two thirds of all rollouts need no more. Infinite when the margin is 0.

    Args:
        margin: tolerated relative excess.
        share: the canary's share of what the two arms get together.
        beta: probability at most of a wrong promotion.
    """
    return _least(lambda n: float(log_e_below(share * n, (1.0 - share) * n, share=share, margin=margin)), beta)


@lru_cache(maxsize=1024)
def requests_needed(at_most: float, share_bad: float, beta: float) -> float:
    """Requests of the canary by which it has shown to keep an objective.

    Args:
        at_most: the objective.
        share_bad: what is bad in truth.
        beta: probability at most of a wrong promotion.
    """
    if share_bad >= at_most:
        return math.inf
    return _least(lambda n: float(log_e_proportion_below(share_bad * n, n, at_most=at_most)), beta)


def _least(log_e: Callable[[float], float], beta: float) -> float:
    """The least count at which evidence that grows with it reaches 1/beta, to a hundredth."""
    at = math.log(1.0 / beta)
    low, high = 1.0, 2.0
    while log_e(high) < at:
        low, high = high, 2.0 * high
        if high > _MOST:
            return math.inf
    while high - low > 0.01 * low:
        middle = (low + high) / 2.0
        low, high = (middle, high) if log_e(middle) < at else (low, middle)
    return high
