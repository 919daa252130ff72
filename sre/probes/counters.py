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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sre.judges.canary.observation import Trouble
from sre.probes.answers import Gap, Series

_EXACT = 2**53  # Prometheus counts in float64
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")

Target = tuple[str, str]
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a counter stood at, when it was scraped."""

    at: float
    value: int


Samples = Mapping[Key, tuple[Sample, ...]]


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes whose counters are read, as Prometheus scraped them.

    Attributes:
        scraped: when each target was scraped successfully, s since the epoch, ascending.
        living: targets that were up at the last scrape, and when that was. What came later is left to the next count, so that
            all counters of a target are cut at the same scrape.
        starts: when each process began, as of each scrape; empty for those that do not say.
    """

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
    """

    grown: Mapping[Key, int]
    marks: Mapping[Key, Sample]
    unknown: tuple[Key, ...]


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


def edge(text: str) -> float:
    """A bucket's upper edge; infinity for the last.

    Raises:
        Gap: it is no number.
    """
    return math.inf if text in ("+Inf", "inf") else number(text)


def target_of(labels: Key | Mapping[str, str]) -> Target:
    """Whose series it is."""
    found = dict(labels)
    return found.get("job", ""), found.get("instance", "")


def by_target(series: Sequence[Series], selector: str) -> dict[Target, list[tuple[float, str]]]:
    """One line of samples per target, whatever its other labels were meanwhile.

    Raises:
        Gap: a target has several at once.
    """
    found: dict[Target, list[tuple[float, str]]] = {}
    for one in series:
        found.setdefault(target_of(one.labels), []).extend(one.values)
    for target, values in found.items():
        values.sort()
        if any(earlier == later for (earlier, _), (later, _) in pairwise(values)):
            why = f"{selector} has several series of {target[1]} at once; narrow the selector to one"
            raise Gap(Trouble.SEVERAL_SERIES, why)
    return found


def starts(series: Sequence[Series], selector: str) -> dict[Target, tuple[tuple[float, float], ...]]:
    """When each process began, as of each scrape; raises as `by_target` and `moment`."""
    lines = by_target(series, selector)
    return {target: tuple((at, moment(value)) for at, value in values) for target, values in lines.items()}


def samples(of: Processes, series: Sequence[Series], end: float) -> Samples:
    """What counters stood at, up to `end` and up to the scrape at which their target is cut.

    Raises:
        Gap: something is no count, or a series is there twice.
    """
    found: dict[Key, list[Sample]] = {}
    for one in series:
        last = min(end, of.living.get(target_of(one.labels), end))
        values = [Sample(at, count(value)) for at, value in one.values if at <= last]
        if values:
            found.setdefault(_key(one.labels), []).extend(values)
    for key, values in found.items():
        values.sort(key=lambda sample: sample.at)
        if any(earlier.at == later.at for earlier, later in pairwise(values)):
            raise Gap(Trouble.MALFORMED, f"{dict(key)} is exposed twice under two spellings; expose it once")
    return {key: tuple(values) for key, values in sorted(found.items())}


def falls(of: Processes, found: Samples, marks: Mapping[Key, Sample]) -> Iterator[tuple[Target, float]]:
    """Scrapes at which a counter stood lower than before, so that its process began anew, and with it all its counters."""
    for key, values in found.items():
        target = target_of(key)
        for earlier, later in pairwise(_from(values, marks.get(key))):
            if later.value < earlier.value and of.began_anew(target, earlier.at, later.at) is not False:
                yield target, later.at


def increments(
    of: Processes, found: Samples, marks: Mapping[Key, Sample], since: float, fell: Mapping[Target, Iterable[float]]
) -> Counted:
    """What the counters of one selector grew by since they were last counted.

    Args:
        of: whose they are.
        found: from `samples`.
        marks: from the last count; empty at the first.
        since: instant from which on is counted.
        fell: from `falls`, of all counters of these processes.

    Raises:
        Gap: a counter fell although its process did not begin anew.
    """
    grown: dict[Key, int] = {}
    kept, unknown = dict(marks), []
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
        grown[key], kept[key] = total, line[-1]
    for key, mark in kept.items():
        target = target_of(key)
        end = of.living.get(target, mark.at)
        # What a new process has not yet exposed stands at zero.
        if mark.at < end and (of.began_anew(target, mark.at, end) or any(mark.at < at <= end for at in fell.get(target, ()))):
            kept[key] = Sample(end, 0)
    return Counted(grown, kept, tuple(unknown))


def _key(labels: Mapping[str, str]) -> Key:
    # Prometheus 2 writes le="1" where Prometheus 3 writes le="1.0".
    return tuple(sorted((name, str(edge(value)) if name == "le" else value) for name, value in labels.items()))


def _base(of: Processes, target: Target, values: tuple[Sample, ...], since: float) -> Sample | None:
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
