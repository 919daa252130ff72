"""How long something took that happens once: a recovery, an alert, a restore."""

from __future__ import annotations

import math

from sre.judges.ruling import verdict
from sre.promises import Promise
from sre.units import show
from sre.verdict import Outcome, Verdict


def recovery(promise: Promise, seconds: float | None, *, watched: float, event: str, since: float | None = None) -> Verdict:
    """Judge the time to an event.

    Args:
        promise: bound in s.
        seconds: from the fault to the event, s; None when it was not seen.
        watched: how long it was looked for, s. What was not seen in at least the bound is broken, else inconclusive.
        event: what was waited for, in words: `full service`.
        since: the last look before, s from the fault: the event lies between the two. None where it was seen as it happened.
    """
    if seconds is None:
        looked = f"{event} was not seen in {show(watched, promise.unit)}"
        if watched >= promise.bound:
            return verdict(promise, Outcome.BROKEN, math.inf, None, 1, looked)
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, f"{looked}, and nobody looked longer")
    if not math.isfinite(seconds) or seconds < 0:
        return verdict(
            promise, Outcome.INCONCLUSIVE, None, None, 0, f"{event} was seen {seconds} s after the fault: no measured time"
        )
    outcome = Outcome.KEPT if promise.comparison.holds(seconds, promise.bound) else Outcome.BROKEN
    interval = None if since is None else (since, seconds)
    return verdict(promise, outcome, seconds, interval, 1, f"{event} after {show(seconds, promise.unit, promise.comparison)}")
