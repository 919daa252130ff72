"""Processes with counters, scraped as Prometheus would scrape them, without either: looks with a known truth."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from functools import cache
from typing import Any

import promql_parser
from promql_parser import MatchOp

from sre.canary import plan as plans
from sre.canary.plan import TRACKS, Plan
from sre.canary.promql import of_track
from sre.canary.reading import Look, Reading
from sre.probes.answers import Series

PLAN = """
schema: sre.canary/1
name: digits
scrape: 1s
errors: {rollback: 1%, promote: 5%, sample_ratio: 0.1%}
requests: requests_total{job="s",track="$track"}
stages:
  - {weight: 10%, at_least: 10s, at_most: 1h}
  - {weight: 50%, at_least: 10s, at_most: 1h, approval: true}
  - {weight: 100%, at_least: 10s, at_most: 1h}
no_data: {rollback_after: 2m}
at_deadline: hold
metrics:
  errors:
    {kind: ratio, events: 'requests_total{job="s",track="$track",status=~"5.."}', of: requests, margin: 2x, model: independent}
  latency: {kind: histogram, buckets: 'seconds_bucket{job="s",track="$track"}', worse: higher, margin: 1.5x}
  crashes: {kind: crashes, started: 'process_start_time_seconds{job="s",track="$track"}', limit: 0}
  classes: {kind: classes, predictions: 'classes_total{job="s",track="$track"}', label: label, labels: [cat, dog], margin: 1.5x}
  load: {kind: bounded, value: 'avg(load{job="s",track="$track"})', low: 0, high: 10, worse: higher, margin: 1.5x}
"""
START = 1000.0
EDGES = ("0.1", "1.0", "+Inf")


def make_plan(**replaced: str) -> Plan:
    """The plan above, with texts in it replaced."""
    text = PLAN
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return plans.parse(text)


class Process:
    """One target: what it has counted since it began, and whether it lives."""

    def __init__(self, track: str, instance: str, began: float) -> None:
        self.labels = {"job": "s", "track": track, "instance": instance}
        self.restart(began)

    def restart(self, began: float) -> None:
        self.began, self.alive = began, True
        self.counts: Counter[tuple[tuple[str, str], ...]] = Counter()
        for status in ("200", "500"):
            self._add("requests_total", 0, status=status)
        for edge in EDGES:
            self._add("seconds_bucket", 0, le=edge)
        for label in ("cat", "dog"):
            self._add("classes_total", 0, label=label)

    def answer(self, count: int = 1, *, status: str = "200", seconds: float = 0.05, label: str = "cat") -> None:
        """Answer requests."""
        self._add("requests_total", count, status=status)
        for edge in EDGES:
            self._add("seconds_bucket", count if seconds <= float(edge) else 0, le=edge)
        self._add("classes_total", count, label=label)

    def _add(self, name: str, count: int, **labels: str) -> None:
        self.counts[tuple(sorted({"__name__": name, **labels}.items()))] += count

    def exposed(self) -> list[tuple[dict[str, str], str]]:
        return [
            ({"__name__": "process_start_time_seconds"}, f"{self.began:g}"),
            *((dict(key), f"{value:d}") for key, value in self.counts.items()),
        ]


class Fleet:
    """A canary and a control that Prometheus has scraped once before the counting begins."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.canary = Process("canary", "a:1", START - 100)
        self.control = Process("control", "b:1", START - 100)
        self.processes = [self.canary, self.control]
        self.load = {"canary": "5", "control": "2.5"}
        self._stored: dict[tuple[tuple[str, str], ...], list[tuple[float, str]]] = defaultdict(list)
        self.scrape(START - 0.5)

    def scrape(self, at: float) -> None:
        """Scrape every target."""
        for process in self.processes:
            self.store(process.labels | {"__name__": "up"}, at, str(int(process.alive)))
            for labels, value in process.exposed() if process.alive else ():
                self.store(process.labels | labels, at, value)

    def store(self, labels: dict[str, str], at: float, value: str) -> None:
        """Keep one sample."""
        self._stored[tuple(sorted(labels.items()))].append((at, value))

    def never_show(self, process: Process, label: tuple[str, str]) -> None:
        """A process exposes no series with this label, and never did."""
        process.counts = Counter({key: value for key, value in process.counts.items() if label not in key})
        for key in [key for key in self._stored if label in key and ("instance", process.labels["instance"]) in key]:
            del self._stored[key]

    def look(self, at: float, since: float, stage: int = 0) -> Look:
        """What a look reads."""
        selectors = (self.plan.up(), *self.plan.raw())
        readings = [self._raw(of_track(selector, track), at, since) for selector in selectors for track in TRACKS]
        for value in self.plan.values():
            for track in TRACKS:
                asked = of_track(value, track)
                readings.append(Reading(asked, asked, at, (Series({}, ((at, self.load[track]),)),)))
        return Look(at, stage, tuple(readings))

    def _raw(self, selector: str, at: float, since: float) -> Reading:
        found = []
        for key, stored in self._stored.items():
            if _selects(selector, key):
                first, last = (bisect_right(stored, moment, key=lambda sample: sample[0]) for moment in (since, at))
                if first < last:
                    found.append(Series(dict(key), tuple(stored[first:last])))
        return Reading(selector, f"{selector}[{at - since:g}s]", at, tuple(found))


@cache
def _selects(selector: str, key: tuple[tuple[str, str], ...]) -> bool:
    parsed: Any = promql_parser.parse(selector)
    labels = dict(key)
    return labels["__name__"] == parsed.name and all(_matches(one, labels) for one in parsed.matchers.matchers)


def _matches(matcher: Any, labels: dict[str, str]) -> bool:
    value = labels.get(matcher.name, "")
    return value == matcher.value if matcher.op is MatchOp.Equal else re.fullmatch(matcher.value, value) is not None
