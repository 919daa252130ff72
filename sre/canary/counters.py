"""Exact increments of counters, from raw samples.

PromQL's `increase()` extrapolates and knows no start of a process; sums of differences of what was scraped are exact. A counter
that begins again counts from zero: what it had counted after the last scrape before is lost to everyone, and told as a reset.

That a process began anew shows when any of its counters stands lower than before. A changed start time alone does not tell: of
several processes that share counters one may have been replaced. A process that has counted more of everything than the one
before it ever had, by its first scrape, is therefore taken for the same one, and what that one had counted is left out.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from sre.canary.plan import Plan
from sre.canary.promql import of_track
from sre.canary.reading import Look, Reading
from sre.errors import SreError
from sre.judges.canary.observation import Trouble

STALE_SCRAPES = 2
_EXACT = 2**53  # Prometheus counts in float64
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")

Target = tuple[str, str]
Key = tuple[tuple[str, str], ...]


class Gap(SreError):
    """A metric has no data; becomes a `Missing` and never leaves this package."""

    def __init__(self, trouble: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Sample:
    """What a counter stood at, when it was scraped."""

    at: float
    value: int


Samples = Mapping[Key, tuple[Sample, ...]]


@dataclass(frozen=True, slots=True)
class Arm:
    """The processes behind one arm, as Prometheus scraped them.

    Attributes:
        track: canary or control.
        at: instant of the look.
        stale_s: age at which a sample is stale, s.
        scraped: when each target was scraped successfully, s since the epoch, ascending.
        living: targets that were up at the last scrape, and when that was. What came later is left to the next look, so that
            all counters of a target are cut at the same scrape.
        starts: when each process began, as of each scrape; empty for those that do not say.
    """

    track: str
    at: float
    stale_s: float
    scraped: Mapping[Target, tuple[float, ...]]
    living: Mapping[Target, float]
    starts: Mapping[Target, tuple[tuple[float, float], ...]]

    def start(self, target: Target, at: float) -> float | None:
        """When the process began that was scraped at `at` or last before; None when nobody knows."""
        known = self.starts.get(target, ())
        place = bisect_right(known, at, key=lambda one: one[0])
        return known[place - 1][1] if place else None

    def began_anew(self, target: Target, earlier: float, later: float) -> bool | None:
        """Whether another process ran at `later` than at `earlier`; None when nobody knows."""
        before, after = self.start(target, earlier), self.start(target, later)
        return None if before is None or after is None else before != after


@dataclass(frozen=True, slots=True)
class Counted:
    """Increments of one selector.

    Attributes:
        grown: by series.
        marks: what was counted last, by series.
        unknown: series that were first seen with a past that nobody scraped; their marks begin with the first sample.
        resets: how often a series began again.
    """

    grown: Mapping[Key, int]
    marks: Mapping[Key, Sample]
    unknown: tuple[Key, ...]
    resets: int


def arm(plan: Plan, look: Look, track: str) -> Arm:
    """Who was scraped.

    Raises:
        Gap: nobody, or one target is down.
    """
    up = whole(find(look, of_track(plan.up(), track)))
    stale_s = STALE_SCRAPES * plan.scrape
    scraped: dict[Target, tuple[float, ...]] = {}
    living: dict[Target, float] = {}
    for target, values in _by_target(up).items():
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
    starts = {target: tuple((at, moment(value)) for at, value in values) for target, values in _by_target(started).items()}
    return Arm(track, look.at, stale_s, scraped, living, starts)


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


def number(text: str) -> float:
    """A sample's number.

    Raises:
        Gap: it is not one, or not finite.
    """
    if text == "NaN":
        raise Gap(Trouble.NOT_A_NUMBER, "the value is NaN; correct what exposes or computes it")
    if text in ("+Inf", "-Inf"):
        raise Gap(Trouble.INFINITE, f"the value is {text}; correct what exposes or computes it")
    if not _NUMBER.fullmatch(text):
        raise Gap(Trouble.MALFORMED, f"the value {text[:40]!r} is not as Prometheus writes numbers; ask Prometheus itself")
    value = float(text)
    if math.isinf(value):
        raise Gap(Trouble.INFINITE, f"the value {text[:40]} is beyond all numbers; correct what exposes it")
    return value


def moment(text: str) -> float:
    """A start time, s since the epoch.

    Raises:
        Gap: it is none.
    """
    value = number(text)
    if value <= 0:
        raise Gap(Trouble.MALFORMED, f"a process cannot have begun at {text}; correct what exposes it")
    return value


def count(text: str) -> int:
    """A counter's number.

    Raises:
        Gap: it is not a whole number from 0 to 2^53.
    """
    value = number(text)
    if not (0 <= value <= _EXACT and value.is_integer()):
        raise Gap(Trouble.MALFORMED, f"a counter cannot stand at {text}; name a counter of events")
    return int(value)


def samples(of: Arm, reading: Reading) -> Samples:
    """What a selector's counters stood at, up to the scrape at which their target is cut.

    Raises:
        Gap: there is nothing, something is no count, or a living target exposes none or no longer.
    """
    found: dict[Key, list[Sample]] = {}
    for one in whole(reading).series:
        end = of.living.get(_target(one.labels), of.at)
        values = [Sample(at, count(value)) for at, value in one.values if at <= end]
        if values:
            found.setdefault(_key(one.labels), []).extend(values)
    for key, values in found.items():
        values.sort(key=lambda sample: sample.at)
        if any(earlier.at == later.at for earlier, later in pairwise(values)):
            raise Gap(Trouble.MALFORMED, f"{of.track} exposes {dict(key)} twice under two spellings; expose it once")
    for key, values in found.items():
        _vanished(of, key, values[-1].at)
    _covered(of, reading.selector, _newest(found))
    return {key: tuple(values) for key, values in sorted(found.items())}


def falls(of: Arm, found: Samples, marks: Mapping[Key, Sample]) -> Iterator[tuple[Target, float]]:
    """Scrapes at which a counter stood lower than before, so that its process began anew, and with it all its counters."""
    for key, values in found.items():
        target = target_of(key)
        for earlier, later in pairwise(_from(values, marks.get(key))):
            if later.value < earlier.value and of.began_anew(target, earlier.at, later.at) is not False:
                yield target, later.at


def increments(
    of: Arm, found: Samples, marks: Mapping[Key, Sample], since: float, fell: Mapping[Target, Iterable[float]]
) -> Counted:
    """What the counters of one selector grew by since they were last counted.

    Args:
        of: the arm.
        found: from `samples`.
        marks: from the last count; empty at the first.
        since: instant from which on is counted.
        fell: from `falls`, of all counters of the arm.

    Raises:
        Gap: a counter fell although its process did not begin anew.
    """
    grown: dict[Key, int] = {}
    kept, unknown, resets = dict(marks), [], 0
    for key, values in found.items():
        target = target_of(key)
        base = marks.get(key) or _base(of, target, values, since)
        if base is None:
            unknown.append(key)
            kept[key] = values[0]
            continue
        total = 0
        line = _from(values, base)
        for earlier, later in pairwise(line):
            if later.value < earlier.value and of.began_anew(target, earlier.at, later.at) is False:
                why = f"{dict(key)} fell from {earlier.value} to {later.value} and its process did not begin anew"
                raise Gap(Trouble.MALFORMED, f"{why}; name a counter, not a gauge")
            anew = any(earlier.at < at <= later.at for at in fell.get(target, ()))
            total += later.value if anew else later.value - earlier.value
            resets += anew
        grown[key], kept[key] = total, line[-1]
    for key, mark in kept.items():
        target = target_of(key)
        end = of.living.get(target, mark.at)
        # What a new process has not yet exposed stands at zero.
        if mark.at < end and (of.began_anew(target, mark.at, end) or any(mark.at < at <= end for at in fell.get(target, ()))):
            kept[key] = Sample(end, 0)
    return Counted(grown, kept, tuple(unknown), resets)


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
        target: [(at, moment(text)) for at, text in values if at <= of.living.get(target, of.at)]
        for target, values in _by_target(whole(reading)).items()
    }
    lines = {target: line for target, line in lines.items() if line}
    _covered(of, reading.selector, {target: line[-1][0] for target, line in lines.items()})
    for target, seen in lines.items():
        before = [known[target]] if target in known else [sample for sample in seen if sample[0] <= since][-1:]
        line = [*before, *(sample for sample in seen if not before or sample[0] > before[0][0])]
        total += sum(earlier != later for (_, earlier), (_, later) in pairwise(line))
        kept[target] = line[-1]
    return total, kept


def target_of(key: Key) -> Target:
    """Whose series it is."""
    return _target(dict(key))


def edge(text: str) -> float:
    """A bucket's upper edge; infinity for the last.

    Raises:
        Gap: it is no number.
    """
    return math.inf if text in ("+Inf", "inf") else number(text)


def _target(labels: Mapping[str, str]) -> Target:
    return labels.get("job", ""), labels.get("instance", "")


def _by_target(reading: Reading) -> dict[Target, list[tuple[float, str]]]:
    """One line of samples per target, whatever its other labels were meanwhile."""
    found: dict[Target, list[tuple[float, str]]] = {}
    for one in reading.series:
        found.setdefault(_target(one.labels), []).extend(one.values)
    for target, values in found.items():
        values.sort()
        if any(earlier == later for (earlier, _), (later, _) in pairwise(values)):
            why = f"{reading.selector} has several series of {target[1]} at once; narrow the selector to one"
            raise Gap(Trouble.SEVERAL_SERIES, why)
    return found


def _key(labels: Mapping[str, str]) -> Key:
    # Prometheus 2 writes le="1" where Prometheus 3 writes le="1.0".
    return tuple(sorted((name, str(edge(value)) if name == "le" else value) for name, value in labels.items()))


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


def _newest(found: Mapping[Key, list[Sample]]) -> dict[Target, float]:
    newest: dict[Target, float] = {}
    for key, values in found.items():
        newest[target_of(key)] = max(values[-1].at, newest.get(target_of(key), 0.0))
    return newest


def _vanished(of: Arm, key: Key, last: float) -> None:
    """Raise a Gap when a living target no longer exposes a series and its process is the same."""
    end = of.living.get(target_of(key))
    if end is not None and last < of.at - of.stale_s and not of.began_anew(target_of(key), last, end):
        why = f"{of.track} exposed {dict(key)} last {of.at - last:.1f} s ago although it is up"
        raise Gap(Trouble.STALE, f"{why}; expose it as long as the process lives")


def _base(of: Arm, target: Target, values: tuple[Sample, ...], since: float) -> Sample | None:
    """What a series that was never counted stood at when counting began; None when nobody knows."""
    before = [sample for sample in values if sample.at <= since]
    if before:
        return before[-1]
    first = values[0].at
    began = of.start(target, first)
    # It was not there at a scrape that succeeded, or its process is younger than the counting: it stood at zero.
    if any(at < first for at in of.scraped.get(target, ())) or (began is not None and began >= since):
        return Sample(since, 0)
    return None


def _from(values: tuple[Sample, ...], base: Sample | None) -> list[Sample]:
    """The mark and what came after it."""
    if base is None:
        return list(values)
    return [base, *(sample for sample in values if sample.at > base.at)]
