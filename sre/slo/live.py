"""What Prometheus counted of an objective: exact increments, step by step, or why there are none.

Raw samples are subtracted from each other. `increase()` extrapolates to the edges of its window, and loses what a counter had
when it was first seen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from sre.judges.budget import Counts, Floats, Goal, Method
from sre.slo.objective import Objective
from sre.slo.promql import Count, duration

STEP_S = 15.0
COARSE_STEP_S = 300.0  # of what only Prometheus can compute: the shortest window of an alert
STALE_S = 300.0  # Prometheus itself no longer shows a sample that is so old
_WITHIN_S = 30.0
_CHUNK_S = 86_400.0
_BEFORE_S = 86_400.0  # so far back a counter's value before the span is looked for
_TOGETHER_S = 120.0  # series that begin within this of the oldest sample were there before Prometheus was

_MOST_POINTS = 5000  # of one query by range; Prometheus gives at most 11,000

_Key = tuple[tuple[str, str], ...]
_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of an objective.

    Attributes:
        counts: by steps of STEP_S, or of COARSE_STEP_S where Prometheus computed them.
        exact: whether they are differences of raw samples.
        resets: counters that began again: what they had counted since the scrape before is lost.
        queries: the expressions that were asked, each once.
    """

    counts: Counts
    exact: bool
    resets: int
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """No reading, and why: subject, value and remedy in one sentence."""

    why: str


class _Unanswered(Exception):
    pass


def goal(objective: Objective, at: float) -> Goal:
    """What the arithmetic needs of an objective, at an instant in seconds since the epoch."""
    period, since = objective.period_s, None
    if objective.calendar is not None:
        begin, end = objective.calendar.period(datetime.fromtimestamp(at, UTC))
        since, period = begin.timestamp(), (end - begin).total_seconds()
    return Goal(
        target=objective.target,
        period=period,
        since=since,
        method=Method(objective.budgeting.value),
        slice_s=objective.slice_s,
        slice_target=objective.slice_target,
        independent=objective.independent,
    )


def read(url: str, objective: Objective, since: float, at: float) -> Reading | Missing:
    """Read the events of an objective.

    Args:
        url: of Prometheus.
        objective: whose counters are read.
        since: the beginning, seconds since the epoch.
        at: the end.
    """
    exact = bool(objective.bad.terms and objective.total.terms)
    with httpx.Client(base_url=url, timeout=_WITHIN_S, trust_env=False) as client:
        reader = (_Raw if exact else _Computed)(client, round(since, 3), round(at, 3))
        try:
            bad, total = reader.counts(objective)
        except _Unanswered as error:
            return Missing(str(error))
    name = f"{objective.service}/{objective.name}"
    if not reader.newest:
        return Missing(f"nothing counts the events of {name}; is the service scraped?")
    if at - reader.newest > STALE_S:
        return Missing(f"the newest sample of {name} is {at - reader.newest:,.0f} s old; is the service scraped?")
    used = reader.ends > reader.oldest
    counts = Counts(max(reader.since, reader.oldest), reader.ends[used], _rising(bad[used]), _rising(total[used]))
    return Reading(counts, exact, reader.resets, tuple(dict.fromkeys(reader.queries)))


def _rising(steps: Floats) -> Floats:
    """Counters of one scrape are not read at one instant, so that a difference of two may dip; the next step makes it up."""
    return np.diff(np.maximum.accumulate(np.append(0.0, np.cumsum(steps))))


class _Reader:
    """Asks Prometheus, and keeps what all its answers have in common."""

    step = STEP_S

    def __init__(self, client: httpx.Client, since: float, at: float) -> None:
        self._client = client
        self.since, self.at = since, at
        # Aligned to the epoch, as slices of time are; the last step ends with the span.
        first, last = math.floor(since / self.step) + 1, math.ceil(at / self.step)
        self.ends: Floats = np.append(np.arange(first, last) * self.step, at)
        self.oldest, self.newest = math.inf, 0.0
        self.resets = 0
        self.queries: list[str] = []

    def ask(self, path: str, expression: str, **parameters: str) -> list[Any]:
        """The series of an answer that is whole."""
        self.queries.append(expression)
        try:
            answer = self._client.get(path, params={"query": expression, "timeout": f"{_WITHIN_S:.0f}s", **parameters})
            document = answer.json()
            if document["status"] != "success":
                raise _Unanswered(f"Prometheus refuses {expression}: {document['error']}")
            if document.get("warnings"):
                raise _Unanswered(f"Prometheus answers {expression} in part: {'; '.join(document['warnings'])}")
            found = document["data"]["result"]
        except httpx.HTTPError as error:
            raise _Unanswered(f"Prometheus at {self._client.base_url} does not answer ({type(error).__name__})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _Unanswered(f"{self._client.base_url} does not answer as Prometheus does; is the address right?") from error
        if not isinstance(found, list):
            raise _Unanswered(f"{expression} is no set of series; correct the query")
        return found

    def points(self, series: Mapping[str, Any], expression: str) -> list[_Point]:
        """The samples of a series."""
        found = [(float(at), float(text)) for at, text in series["values"]]
        for at, value in found:
            if not math.isfinite(value):
                raise _Unanswered(f"{expression} holds {value} at {at:.0f}; a count is a number")
        return found


class _Raw(_Reader):
    """Subtracts raw samples."""

    def counts(self, objective: Objective) -> tuple[Floats, Floats]:
        """Bad and total events per step."""
        terms = [(term, self._before(term.selector), self._samples(term.selector)) for term in objective.bad.terms]
        found = len(terms)
        terms += [(term, self._before(term.selector), self._samples(term.selector)) for term in objective.total.terms]
        began = min((one[0][0] for _, _, samples in terms for one in samples.values()), default=math.inf)
        # Nobody knows what a counter had when Prometheus itself began. One that appears later began at zero.
        unknown = -math.inf if any(known for _, known, _ in terms) else began + _TOGETHER_S
        self.oldest = began if unknown > 0 else self.since
        self.newest = max((one[-1][0] for _, _, samples in terms[found:] for one in samples.values()), default=0.0)
        sums = [term.sign * self._increments(known, samples, unknown) for term, known, samples in terms]
        return np.sum(sums[:found], axis=0), np.sum(sums[found:], axis=0)

    def _before(self, selector: str) -> dict[_Key, float]:
        """The value of each series at the beginning of the span."""
        expression = f"last_over_time({selector}[{duration(_BEFORE_S)}])"
        found = self.ask("/api/v1/query", expression, time=f"{self.since:.3f}")
        return {_key(series): float(series["value"][1]) for series in found}

    def _samples(self, selector: str) -> dict[_Key, list[_Point]]:
        samples: dict[_Key, list[_Point]] = defaultdict(list)
        expression = f"{selector}[{duration(_CHUNK_S)}]"
        for chunk in [*self._held(selector), self.at]:
            for series in self.ask("/api/v1/query", expression, time=f"{chunk:.3f}"):
                one = samples[_key(series)]
                last = one[-1][0] if one else self.since
                # Chunks share their edges, and the last one reaches back into the one before it.
                one += [point for point in self.points(series, expression) if point[0] > last]
        return {key: one for key, one in samples.items() if one}

    def _held(self, selector: str) -> list[float]:
        """The ends of those whole chunks that hold a sample: a month's question to a server of today is then short."""
        ends = np.arange(self.since + _CHUNK_S, self.at, _CHUNK_S)
        if not len(ends):
            return []
        expression = f"count(last_over_time({selector}[{duration(_CHUNK_S)}]))"
        span = {"start": f"{ends[0]:.3f}", "end": f"{ends[-1]:.3f}", "step": f"{_CHUNK_S:.0f}"}
        return [at for series in self.ask("/api/v1/query_range", expression, **span) for at, _ in self.points(series, expression)]

    def _increments(self, known: Mapping[_Key, float], samples: Mapping[_Key, Sequence[_Point]], unknown: float) -> Floats:
        summed = np.zeros(len(self.ends))
        for key, one in samples.items():
            at, later = np.array(one).T
            first = known.get(key, later[0] if at[0] <= unknown else 0.0)
            fell = later < (before := np.append(first, later[:-1]))
            np.add.at(summed, np.searchsorted(self.ends, at), np.where(fell, later, later - before))
            self.resets += int(fell.sum())
        return summed


class _Computed(_Reader):
    """Takes what Prometheus computes over windows of COARSE_STEP_S."""

    step = COARSE_STEP_S

    def counts(self, objective: Objective) -> tuple[Floats, Floats]:
        """Bad and total events per step; steps without an answer have none."""
        # A query by range is evaluated from its start on, and must end at the end.
        self.ends = np.arange(self.at, self.since, -self.step)[::-1]
        bad, total = self._steps(objective.bad), self._steps(objective.total)
        held = self.ends[~np.isnan(total)]
        if len(held):
            self.oldest, self.newest = float(held[0]) - self.step, float(held[-1])
        return np.nan_to_num(bad), np.nan_to_num(total)

    def _steps(self, count: Count) -> Floats:
        """Events per step; NaN where there is no answer."""
        expression = count.over(self.step)
        found = np.full(len(self.ends), np.nan)
        for part in np.array_split(self.ends, math.ceil(len(self.ends) / _MOST_POINTS)):
            span = {"start": f"{part[0]:.3f}", "end": f"{part[-1]:.3f}", "step": f"{self.step:.0f}"}
            answer = self.ask("/api/v1/query_range", expression, **span)
            if len(answer) > 1:
                raise _Unanswered(f"{expression} gives {len(answer)} series; sum them in the query")
            for at, value in self.points(answer[0], expression) if answer else ():
                found[np.searchsorted(self.ends, at - self.step / 2)] = value
        return found


def _key(series: Mapping[str, Any]) -> _Key:
    return tuple(sorted((name, value) for name, value in series["metric"].items() if name != "__name__"))
