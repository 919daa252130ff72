"""From looks to intervals: what each arm counted since the look before, or why that is not known.

A metric that had no data for some looks loses nothing: what it counted meanwhile is in the next interval in which it is whole.
Both arms of a metric are counted over the same looks, always.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from sre.canary import counters
from sre.canary.counters import Arm
from sre.canary.plan import (
    REQUESTS,
    TRACKS,
    BoundedMetric,
    ClassesMetric,
    CrashesMetric,
    Metric,
    Plan,
    RatioMetric,
)
from sre.canary.promql import of_track
from sre.canary.reading import Look, Reading
from sre.judges.canary.observation import (
    Classes,
    Crashes,
    Events,
    Histogram,
    Interval,
    Means,
    Missing,
    Observation,
    Trouble,
)
from sre.probes.answers import Gap
from sre.probes.counters import Key, Sample, Samples, Target, edge, falls, increments, number

_SLACK_SCRAPES = 3  # a sample that is not yet stale must be in the window, and Prometheus leaves out the window's first instant

Marks = Mapping[Key, Sample]
Grown = Mapping[Key, int]


class Counting:
    """Folds looks into intervals. Pure: the same looks give the same intervals.

    Args:
        plan: of the canary.
        start: instant from which on is counted, seconds since the epoch.
        tracks: who is the canary and who its control; the same twice when there is nobody to compare with.
    """

    def __init__(self, plan: Plan, start: float, tracks: tuple[str, str] = TRACKS) -> None:
        self._plan = plan
        self._tracks = tracks
        self._end = start
        self._since = dict.fromkeys((REQUESTS, *plan.metrics), start)
        # By metric, arm and selector.
        self._marks: dict[tuple[str, str, str], Marks] = {}
        # By metric and arm.
        self._starts: dict[tuple[str, str], Mapping[Target, tuple[float, float]]] = {}

    @property
    def since(self) -> float:
        """How far back the next look has to reach, seconds since the epoch."""
        return min(self._since.values()) - _SLACK_SCRAPES * self._plan.scrape

    def look(self, look: Look) -> Interval:
        """Count what happened since the look before."""
        observations: dict[str, Observation] = {}
        missing: list[Missing] = []
        requests = (0, 0)
        try:
            seen = {track: _Seen(counters.arm(self._plan, look, track), look) for track in self._tracks}
        except Gap as gap:
            missing = [Missing(name, gap.trouble, gap.detail) for name in self._since]
        else:
            self._find_restarts(seen)
            for name in self._since:
                try:
                    if name == REQUESTS:
                        requests = self._requests(seen)
                    else:
                        observations[name] = self._observe(name, self._plan.metrics[name], seen)
                except Gap as gap:
                    missing.append(Missing(name, gap.trouble, gap.detail))
                else:
                    self._since[name] = look.at
        start, self._end = self._end, look.at
        return Interval(start, look.at, look.stage, *requests, observations, tuple(missing))

    def _find_restarts(self, seen: Mapping[str, _Seen]) -> None:
        # One counter that fell tells that all of its process began anew, also those that have overtaken themselves since.
        for metric, selector in self._counters():
            for one in seen.values():
                try:
                    found = one.samples(selector)
                except Gap:
                    continue
                for target, at in falls(one.of, found, self._marks.get((metric, one.of.track, selector), {})):
                    one.fell.setdefault(target, []).append(at)

    def _counters(self) -> list[tuple[str, str]]:
        found = [(REQUESTS, self._plan.requests)]
        for name, metric in self._plan.metrics.items():
            if not isinstance(metric, CrashesMetric):
                found += [(name, selector) for selector in self._plan.selectors(metric)]
        return found

    def _requests(self, seen: Mapping[str, _Seen]) -> tuple[int, int]:
        (canary,), (control,) = self._grown(REQUESTS, (self._plan.requests,), seen)
        return sum(canary.values()), sum(control.values())

    def _observe(self, name: str, metric: Metric, seen: Mapping[str, _Seen]) -> Observation:
        if isinstance(metric, BoundedMetric):
            canary, control = (_mean(metric, seen[track]) for track in self._tracks)
            return Means(canary, control)
        if isinstance(metric, CrashesMetric):
            return self._crashes(name, metric, seen)
        arms = self._grown(name, self._plan.selectors(metric), seen)
        if isinstance(metric, RatioMetric):
            return _events(*arms)
        (canary_grown,), (control_grown,) = arms
        if isinstance(metric, ClassesMetric):
            return _classes(metric, canary_grown, control_grown)
        return _histogram(canary_grown, control_grown)

    def _grown(self, name: str, selectors: Sequence[str], seen: Mapping[str, _Seen]) -> list[list[Grown]]:
        """Increments by arm and selector. What is counted is marked only when all of it is known."""
        marks: dict[tuple[str, str, str], Marks] = {}
        unknown: list[Key] = []
        arms: list[list[Grown]] = []
        for track in self._tracks:
            one, arm = seen[track], []
            for selector in selectors:
                place = (name, track, selector)
                known = self._marks.get(place, {})
                counted = increments(one.of, one.samples(selector), known, self._since[name], one.fell)
                if counted.unknown:
                    self._marks[place] = {**known, **{key: counted.marks[key] for key in counted.unknown}}
                unknown += counted.unknown
                marks[place] = counted.marks
                arm.append(counted.grown)
            arms.append(arm)
        if unknown:
            why = f"{dict(unknown[0])} was never scraped before and its process began earlier, so its past is not known"
            raise Gap(Trouble.UNINITIALISED, f"{why}; it counts from now on")
        self._marks |= marks
        return arms

    def _crashes(self, name: str, metric: CrashesMetric, seen: Mapping[str, _Seen]) -> Crashes:
        found = {
            track: counters.restarts(
                seen[track].of, seen[track].reading(metric.started), self._starts.get((name, track), {}), self._since[name]
            )
            for track in self._tracks
        }
        self._starts |= {(name, track): starts for track, (_, starts) in found.items()}
        return Crashes(*(found[track][0] for track in self._tracks))


class _Seen:
    """One look at one arm."""

    def __init__(self, of: Arm, look: Look) -> None:
        self.of = of
        self.fell: dict[Target, list[float]] = {}
        self._look = look
        self._samples: dict[str, Samples] = {}

    def reading(self, selector: str) -> Reading:
        return counters.find(self._look, of_track(selector, self.of.track))

    def samples(self, selector: str) -> Samples:
        if selector not in self._samples:
            self._samples[selector] = counters.samples(self.of, self.reading(selector))
        return self._samples[selector]


def _events(canary: Sequence[Grown], control: Sequence[Grown]) -> Events:
    events, of, control_events, control_of = (sum(grown.values()) for grown in (*canary, *control))
    if events > of or control_events > control_of:
        why = f"{events} of {of} and {control_events} of {control_of} cannot be: there are more events than they are part of"
        raise Gap(Trouble.MALFORMED, f"{why}; correct `events` or `of`")
    return Events(events, of, control_events, control_of)


def _classes(metric: ClassesMetric, canary: Grown, control: Grown) -> Classes:
    arms = []
    for grown in (canary, control):
        totals = Counter(dict.fromkeys(metric.labels, 0))
        for key, value in grown.items():
            label = dict(key).get(metric.label)
            if label is None:
                raise Gap(Trouble.MALFORMED, f"{dict(key)} has no label {metric.label}; correct `label`")
            totals[label] += value
        arms.append(totals)
    labels = (*metric.labels, *sorted({*arms[0], *arms[1]} - {*metric.labels}))
    return Classes(labels, *(tuple(totals[label] for label in labels) for totals in arms))


def _histogram(canary: Grown, control: Grown) -> Histogram:
    """Counts per bucket from counts up to each edge."""
    edges: list[float] | None = None
    arms = []
    for grown in (canary, control):
        groups: dict[Key, dict[float, int]] = {}
        for key, value in grown.items():
            labels = dict(key)
            if "le" not in labels:
                raise Gap(Trouble.MALFORMED, f"{labels} has no le; name the buckets of a histogram")
            groups.setdefault(tuple(item for item in key if item[0] != "le"), {})[edge(labels["le"])] = value
        for group, found in groups.items():
            edges = edges or sorted(found)
            if sorted(found) != edges or edges[-1] != math.inf:
                why = f"{dict(group)} has the edges {sorted(found)}, another series of these arms has {edges}"
                raise Gap(Trouble.MALFORMED, f"{why}; give all the same, up to +Inf")
        upto = [sum(found[edge] for found in groups.values()) for edge in edges or ()]
        counts = tuple(later - earlier for earlier, later in pairwise([0, *upto]))
        if min(counts) < 0:
            raise Gap(Trouble.MALFORMED, f"counts up to the edges {edges} are {upto} and fall; expose a histogram's own buckets")
        arms.append(counts)
    return Histogram(tuple((edges or [])[:-1]), *arms)


def _mean(metric: BoundedMetric, seen: _Seen) -> float:
    reading = counters.whole(seen.reading(metric.value))
    named = f"{seen.of.track}: {reading.expression}"
    if not reading.series:
        raise Gap(Trouble.EMPTY, f"{named} gives nothing; correct the expression")
    if len(reading.series) > 1:
        raise Gap(Trouble.SEVERAL_SERIES, f"{named} gives {len(reading.series)} series; aggregate them to one")
    at, text = reading.series[0].values[-1]
    if at < seen.of.at - seen.of.stale_s:
        raise Gap(Trouble.STALE, f"{named} was last known {seen.of.at - at:.1f} s ago; see to what it is computed from")
    value = number(text)
    if not metric.low <= value <= metric.high:
        raise Gap(Trouble.MALFORMED, f"{named} is {value:g}, outside {metric.low:g} to {metric.high:g}; correct the bounds")
    return (value - metric.low) / (metric.high - metric.low)
