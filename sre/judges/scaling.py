"""Did the number of replicas follow the load, within the steps that it may take?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sre.judges.ruling import verdict
from sre.promises import Promise
from sre.verdict import Outcome, Verdict

# Of the architecture document: one more in 30 s, one less in 5 min.
UP_S, DOWN_S = 30.0, 300.0
# Looks are a second apart, and the autoscaler's own clock is not ours.
TOLERANCE_S = 3.0


@dataclass(frozen=True, slots=True)
class ScaleLook:
    """What was seen at one moment.

    Attributes:
        at: monotonic s.
        wanted: replicas that the autoscaler wants.
        ready: replicas that serve.
    """

    at: float
    wanted: int
    ready: int


def scaling(promise: Promise, looks: Sequence[ScaleLook], *, ended: float, least: int, most: int) -> Verdict:
    """Judge how the number of replicas followed a load and its end.

    Args:
        promise: bound as a count of breaches.
        looks: from before the load to the end of the watch, in order.
        ended: when the load did, monotonic s.
        least: replicas that there must be.
        most: that there may be.
    """
    during = [look for look in looks if look.at <= ended]
    if not during or len(during) == len(looks):
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, len(looks), "nobody looked under the load and after it")
    peak = max(look.wanted for look in during)
    if peak <= least:
        why = f"the autoscaler never wanted more than {least} replicas; send more with --rate"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, len(looks), why)
    breaches = [*_steps(looks), *_numbers(looks, peak, least, most)]
    reached = next((look.at - during[0].at for look in during if look.ready > least), None)
    seen = f"{least} replicas, {peak} wanted under the load, {looks[-1].ready} at the end"
    first = "" if reached is None else f"; one more served after {reached:.0f} s"
    why = "; ".join([f"{seen}{first}", *breaches])
    return verdict(promise, Outcome.BROKEN if breaches else Outcome.KEPT, float(len(breaches)), None, len(looks), why)


def _steps(looks: Sequence[ScaleLook]) -> list[str]:
    breaches, last = [], {1: float("-inf"), -1: float("-inf")}
    for before, after in pairwise(looks):
        step = after.wanted - before.wanted
        if step == 0:
            continue
        sign, rest = (1, UP_S) if step > 0 else (-1, DOWN_S)
        words = f"from {before.wanted} to {after.wanted}"
        if abs(step) > 1:
            breaches.append(f"{words} in one step")
        elif after.at - last[sign] < rest - TOLERANCE_S:
            breaches.append(f"{words} {after.at - last[sign]:.0f} s after the step before it, {rest:.0f} s at least")
        last[sign] = after.at
    return breaches


def _numbers(looks: Sequence[ScaleLook], peak: int, least: int, most: int) -> list[str]:
    breaches = []
    if (lowest := min(look.ready for look in looks)) < least:
        breaches.append(f"only {lowest} were ready for a while")
    if peak > most:
        breaches.append(f"{peak} wanted, {most} at most")
    if (reached := max(look.ready for look in looks)) < peak:
        breaches.append(f"{reached} of the {peak} wanted ever served")
    if looks[-1].wanted > least:
        breaches.append(f"{looks[-1].wanted} still wanted {looks[-1].at - looks[0].at:.0f} s after the load began")
    return breaches
