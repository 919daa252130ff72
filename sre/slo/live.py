"""What Prometheus counted of an objective: exact increments, step by step, or why there are none.

Raw samples are subtracted from each other. `increase()` extrapolates to the edges of its window, and loses what a counter had
when it was first seen. `sre.probes.counters` counts likewise for few samples of processes that are known; here are months of
samples of any counters, summed as arrays.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from sre.judges.budget import Counts, Floats, Goal, Method
from sre.judges.canary.observation import Trouble
from sre.probes.answers import MEBIBYTE, Api, Gap, Series, matrix, vector
from sre.probes.counters import number
from sre.slo.objective import Objective
from sre.slo.promql import Count, duration

STEP_S = 15.0
COARSE_STEP_S = 300.0  # of what only Prometheus can compute: the shortest window of an alert
STALE_S = 300.0  # Prometheus itself no longer shows a sample that is so old
_WITHIN_S = 30.0
_MOST_BYTES = 1024 * MEBIBYTE  # a day of one series is 150 kB
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

    Raises:
        UsageError: the URL is none.
    """
    exact = bool(objective.bad.terms and objective.total.terms)
    reader = (_Raw if exact else _Computed)(Api(url, _WITHIN_S, _MOST_BYTES), round(since, 3), round(at, 3))
    try:
        bad, total = reader.counts(objective)
    except Gap as gap:
        return Missing(f"{reader.queries[-1]}: {gap.detail}")
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

    def __init__(self, api: Api, since: float, at: float) -> None:
        self._api = api
        self.since, self.at = since, at
        # Aligned to the epoch, as slices of time are; the last step ends with the span.
        first, last = math.floor(since / self.step) + 1, math.ceil(at / self.step)
        self.ends: Floats = np.append(np.arange(first, last) * self.step, at)
        self.oldest, self.newest = math.inf, 0.0
        self.resets = 0
        self.queries: list[str] = []

    def ask(self, path: str, expression: str, **parameters: str) -> bytes:
        """The body of a whole answer."""
        self.queries.append(expression)
        return asyncio.run(self._api.ask(path, expression, **parameters))

    def steps(self, expression: str, start: float, end: float, step: float) -> tuple[Series, ...]:
        """What an expression gives at every step from `start` to `end`."""
        span = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.0f}"}
        return matrix(self.ask("query_range", expression, **span), round(end, 3), {}, hints=True)


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
        found = vector(self.ask("query", expression, time=f"{self.since:.3f}"), self.since, {})
        return {_key(series): number(series.values[0][1]) for series in found}

    def _samples(self, selector: str) -> dict[_Key, list[_Point]]:
        samples: dict[_Key, list[_Point]] = defaultdict(list)
        expression = f"{selector}[{duration(_CHUNK_S)}]"
        for chunk in [*self._held(selector), self.at]:
            for series in matrix(self.ask("query", expression, time=f"{chunk:.3f}"), round(chunk, 3), {}):
                one = samples[_key(series)]
                last = one[-1][0] if one else self.since
                # Chunks share their edges, and the last one reaches back into the one before it.
                one += [(at, number(text)) for at, text in series.values if at > last]
        return {key: one for key, one in samples.items() if one}

    def _held(self, selector: str) -> list[float]:
        """The ends of those whole chunks that hold a sample: a month's question to a server of today is then short."""
        ends = np.arange(self.since + _CHUNK_S, self.at, _CHUNK_S)
        if not len(ends):
            return []
        expression = f"count(last_over_time({selector}[{duration(_CHUNK_S)}]))"
        return [at for series in self.steps(expression, ends[0], ends[-1], _CHUNK_S) for at, _ in series.values]

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
            answer = self.steps(expression, part[0], part[-1], self.step)
            if len(answer) > 1:
                raise Gap(Trouble.SEVERAL_SERIES, f"{len(answer)} series answer; sum them in the query")
            for at, text in answer[0].values if answer else ():
                found[np.searchsorted(self.ends, at - self.step / 2)] = number(text)
        return found


def _key(series: Series) -> _Key:
    return tuple(sorted((name, value) for name, value in series.labels.items() if name != "__name__"))
