"""After the promotion: no control is left, so the new version is held to what production did before, frozen.

The limit of each metric is its objective or what the control showed during the stages, whichever allows more: the upper end of
the control's 95 % interval, times the tolerated excess. Evidence against "no worse than that" is the one of an anytime-valid
test of a share (canary-slo.md 1.7 with the limit for the share); bad events are first divided by the dispersion that the stages
showed, which is an approximation and no theorem. E-values are averaged over the metrics; 1/alpha demotes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sre.canary.counting import Counting
from sre.canary.plan import Plan
from sre.canary.reading import Look
from sre.judges.canary.decision import Action, Standing
from sre.judges.canary.observation import Events, Histogram, Interval, Observation
from sre.judges.canary.rules import Rules, Worse
from sre.measure.evidence import log_mean
from sre.measure.proportion import at_most
from sre.measure.shares import log_e_above
from sre.units import Comparison, Unit, show

PRODUCTION = "stable"  # track of the replicas in production


@dataclass(frozen=True, slots=True)
class Limit:
    """What one metric is held to.

    Attributes:
        name: of the metric.
        share: of requests that may be bad.
        edge: for histograms; None for ratios.
        worse: the bad side of the edge.
        burst: bad events that come at once.
    """

    name: str
    share: float
    edge: float | None
    worse: Worse
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Burned:
    """What a look after the promotion came to.

    Attributes:
        until: end of the interval, seconds since the epoch.
        action: PROMOTE when enough time has passed without a breach, ROLLBACK to demote, else HOLD.
        log_e: evidence that the version burns more than it may.
        burns: by metric, share of bad requests over the share that may be; None without requests.
        why: one sentence.
    """

    until: float
    action: Action
    log_e: float
    burns: Mapping[str, float | None]
    why: str


def limits(rules: Rules, intervals: Iterable[Interval], last: Standing) -> tuple[Limit, ...]:
    """What the metrics are held to, from what the control did.

    Args:
        rules: of the gate.
        intervals: of the stages with a control.
        last: the last standing; holds the dispersions.
    """
    seen = list(intervals)
    bursts = {metric.name: max(metric.dispersion or 1.0, 1.0) for metric in last.metrics}
    found = []
    for rule in rules.metrics:
        edge = rule.objective.edge if rule.objective else None
        counted = [_bad(one.observations.get(rule.name), edge, rule.worse, canary=False) for one in seen]
        bad, of = sum(one[0] for one in counted), sum(one[1] for one in counted)
        if of:
            before = min(at_most(bad, of) * (1.0 + rule.margin), 0.5)
            share = max(before, rule.objective.at_most if rule.objective else 0.0)
            found.append(Limit(rule.name, share, edge, rule.worse, bursts[rule.name]))
    return tuple(found)


class Aftermath:
    """Judges the looks after a promotion.

    Args:
        plan: of the canary; its last stage is the one that is watched.
        held_to: from `limits`.
        start: when all traffic was given to the version, seconds since the epoch.
    """

    def __init__(self, plan: Plan, held_to: tuple[Limit, ...], start: float) -> None:
        self._plan, self._limits, self._start = plan, held_to, start
        self._stage = plan.stages[-1]
        self._counting = Counting(plan, start, tracks=(PRODUCTION, PRODUCTION))
        self._counts = {limit.name: (0, 0) for limit in held_to}
        self._whole_until = start

    @property
    def since(self) -> float:
        """How far back the next look has to reach, seconds since the epoch."""
        return self._counting.since

    def look(self, look: Look) -> Burned:
        """Judge one more look at the replicas in production."""
        interval = self._counting.look(look)
        for limit in self._limits:
            bad, of = _bad(interval.observations.get(limit.name), limit.edge, limit.worse, canary=True)
            before = self._counts[limit.name]
            self._counts[limit.name] = (before[0] + bad, before[1] + of)
        if not interval.missing:
            self._whole_until = interval.end
        logs = [self._evidence(limit) for limit in self._limits]
        log_e = float(log_mean(logs)) if logs else 0.0
        action, why = self._decide(interval, log_e)
        burns = {limit.name: self._burn(limit) for limit in self._limits}
        return Burned(until=interval.end, action=action, log_e=log_e, burns=burns, why=why)

    def _decide(self, interval: Interval, log_e: float) -> tuple[Action, str]:
        lasted, blind = interval.end - self._start, interval.end - self._whole_until
        told = "; ".join(self._sentence(limit) for limit in self._limits)
        if log_e >= math.log(1.0 / self._plan.errors.rollback):
            return Action.ROLLBACK, f"it burns more than production did before: {told}"
        if blind >= self._plan.no_data.rollback_after:
            return Action.ROLLBACK, f"no data for {blind:g} s in one go: {interval.missing[0].detail}"
        if interval.missing:
            return Action.HOLD, interval.missing[0].detail
        served = bool(self._limits) and all(of for _, of in self._counts.values())
        if lasted >= self._stage.at_least and served:
            return Action.PROMOTE, f"{lasted:.0f} s at all traffic without a breach: {told}"
        if lasted >= self._stage.at_most:
            return Action.ROLLBACK, f"{lasted:.0f} s at all traffic and nothing to judge by: {told or 'no metric has a bad side'}"
        return Action.HOLD, f"watched for {lasted:.0f} of {self._stage.at_least:.0f} s: {told}"

    def _evidence(self, limit: Limit) -> float:
        bad, of = self._counts[limit.name]
        fine = (of - bad) / limit.burst
        return float(log_e_above(bad / limit.burst, fine, share=limit.share, prior=1.0 / limit.share))

    def _burn(self, limit: Limit) -> float | None:
        bad, of = self._counts[limit.name]
        return bad / of / limit.share if of else None

    def _sentence(self, limit: Limit) -> str:
        bad, of = self._counts[limit.name]
        share = show(bad / of if of else None, Unit.RATIO)
        return f"{limit.name} {share} of {show(limit.share, Unit.RATIO, Comparison.AT_LEAST)}, {of:,} requests"


def _bad(found: Observation | None, edge: float | None, worse: Worse, *, canary: bool) -> tuple[int, int]:
    """Bad and all requests of one side; none where a metric has no bad side."""
    if isinstance(found, Events):
        return (found.canary, found.canary_of) if canary else (found.control, found.control_of)
    if isinstance(found, Histogram) and edge is not None:
        counts = found.canary if canary else found.control
        below = sum(count for at, count in zip(found.edges, counts, strict=False) if at <= edge)
        return (sum(counts) - below if worse is Worse.HIGHER else below), sum(counts)
    return 0, 0
