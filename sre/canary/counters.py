"""Who of an arm was scraped, and what its counters stood at, all of it known or none.

How increments are counted from there stands in `sre.probes.counters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from sre.canary.plan import Plan
from sre.canary.promql import of_track
from sre.canary.reading import Look, Reading
from sre.judges.canary.observation import Trouble
from sre.probes import counters
from sre.probes.answers import Gap
from sre.probes.counters import Key, Processes, Samples, Target, target_of

STALE_SCRAPES = 2


@dataclass(frozen=True, slots=True)
class Arm(Processes):
    """The processes behind one arm.

    Attributes:
        track: canary or control.
        at: instant of the look.
        stale_s: age at which a sample is stale, s.
    """

    track: str
    at: float
    stale_s: float


def arm(plan: Plan, look: Look, track: str) -> Arm:
    """Who was scraped.

    Raises:
        Gap: nobody, or one target is down.
    """
    up = whole(find(look, of_track(plan.up(), track)))
    stale_s = STALE_SCRAPES * plan.scrape
    scraped: dict[Target, tuple[float, ...]] = {}
    living: dict[Target, float] = {}
    for target, values in counters.by_target(up.series, up.selector).items():
        newest, state = values[-1]
        scraped[target] = tuple(at for at, value in values if value == "1")
        if newest < look.at - stale_s:
            continue
        if state != "1":
            raise Gap(Trouble.TARGET_DOWN, f"{track} {target[1]} did not answer its last scrape (up {state}); see why it is down")
        living[target] = newest
    if not living and up.series:
        age = look.at - max(one.values[-1][0] for one in up.series)
        raise Gap(Trouble.STALE, f"{track} was last scraped {age:.1f} s ago, more than {stale_s:g} s; see to Prometheus")
    if not living:
        raise Gap(Trouble.TARGET_DOWN, f"{track} has no target that Prometheus scrapes ({up.selector}); begin it")
    started = whole(find(look, of_track(plan.started(), track)))
    return Arm(scraped, living, counters.starts(started.series, started.selector), track, look.at, stale_s)


def find(look: Look, selector: str) -> Reading:
    """The reading of a selector.

    Raises:
        Gap: the look has none, which only a damaged record lacks.
    """
    for reading in look.readings:
        if reading.selector == selector:
            return reading
    raise Gap(Trouble.EMPTY, f"{selector} was not asked; look again")


def whole(reading: Reading) -> Reading:
    """The reading itself.

    Raises:
        Gap: it has a trouble.
    """
    if reading.trouble is not None:
        raise Gap(reading.trouble, f"{reading.selector}: {reading.detail}")
    return reading


def samples(of: Arm, reading: Reading) -> Samples:
    """What a selector's counters stood at, up to the scrape at which their target is cut.

    Raises:
        Gap: there is nothing, something is no count, or a living target exposes none or no longer.
    """
    found = counters.samples(of, whole(reading).series, of.at)
    newest: dict[Target, float] = {}
    for key, values in found.items():
        target, last = target_of(key), values[-1].at
        _vanished(of, key, last)
        newest[target] = max(last, newest.get(target, last))
    _covered(of, reading.selector, newest)
    return found


def restarts(
    of: Arm, reading: Reading, known: Mapping[Target, tuple[float, float]], since: float
) -> tuple[int, dict[Target, tuple[float, float]]]:
    """How often processes of an arm began anew, and when each began last. The first start of a target is no restart.

    Args:
        of: the arm.
        reading: of start times.
        known: from the last count, when it was seen and the start time, s since the epoch; empty at the first.
        since: instant from which on is counted.

    Raises:
        Gap: a living target does not say when it began.
    """
    total, kept = 0, dict(known)
    lines = {
        target: [sample for sample in values if sample[0] <= of.living.get(target, of.at)]
        for target, values in counters.starts(whole(reading).series, reading.selector).items()
    }
    lines = {target: line for target, line in lines.items() if line}
    _covered(of, reading.selector, {target: line[-1][0] for target, line in lines.items()})
    for target, seen in lines.items():
        before = [known[target]] if target in known else [sample for sample in seen if sample[0] <= since][-1:]
        line = [*before, *(sample for sample in seen if not before or sample[0] > before[0][0])]
        total += sum(earlier != later for (_, earlier), (_, later) in pairwise(line))
        kept[target] = line[-1]
    return total, kept


def _covered(of: Arm, selector: str, newest: Mapping[Target, float]) -> None:
    """Raise a Gap unless every living target has a fresh sample; `newest` says when each was last seen."""
    remedy = "expose it from the start of the process, or correct the selector"
    if not any(target in newest for target in of.living):
        raise Gap(Trouble.EMPTY, f"{of.track} has no series {selector}; {remedy}")
    for target in of.living:
        if target not in newest:
            raise Gap(Trouble.UNINITIALISED, f"{of.track} {target[1]} exposes no {selector} and others do; {remedy}")
        age = of.at - newest[target]
        if age > of.stale_s:
            raise Gap(Trouble.STALE, f"{of.track} {target[1]} is up and exposed {selector} last {age:.1f} s ago; {remedy}")


def _vanished(of: Arm, key: Key, last: float) -> None:
    """Raise a Gap when a living target no longer exposes a series and its process is the same."""
    end = of.living.get(target_of(key))
    if end is not None and last < of.at - of.stale_s and not of.began_anew(target_of(key), last, end):
        why = f"{of.track} exposed {dict(key)} last {of.at - last:.1f} s ago although it is up"
        raise Gap(Trouble.STALE, f"{why}; expose it as long as the process lives")
