"""The gate: looks in, PROMOTE, ROLLBACK or HOLD out. The same looks give the same standings, to the last bit.

Of a canary within all margins, the probability that it is ever rolled back is at most alpha: the evidence of the metrics is
averaged, and an average of e-values reaches 1/alpha with probability alpha at most (Ville's inequality). Of one that is beyond a
margin or an objective, the probability that it is ever promoted is at most beta, since each metric must show by itself that it
is fine. What is not known never promotes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sre.errors import UsageError
from sre.judges.canary.bounded import Bounded
from sre.judges.canary.classes import ClassMix
from sre.judges.canary.crashes import CrashCount
from sre.judges.canary.decision import Action, MetricStanding, Standing
from sre.judges.canary.histogram import Distribution
from sre.judges.canary.metric import Judged, Metric
from sre.judges.canary.observation import Interval, Missing, Observation, Trouble
from sre.judges.canary.ratio import Ratio
from sre.judges.canary.rules import Kind, MetricRule, Rules
from sre.judges.canary.soundness import check
from sre.judges.canary.split import Split
from sre.measure.evidence import log_mean


class Gate:
    """Judges one canary from its first look to its end.

    Args:
        rules: by which.

    Raises:
        UsageError: the rules contradict themselves.
    """

    def __init__(self, rules: Rules) -> None:
        check(rules)
        self._rules = rules
        self._metrics = tuple(_metric(rule, rules.beta) for rule in rules.metrics)
        self._split = Split(rules.sample_ratio_alpha)
        self._rollback_at = math.log(1.0 / rules.alpha)
        self._promote_at = math.log(1.0 / rules.beta)
        self._stage, self._began, self._until = -1, 0.0, -math.inf
        self._final: tuple[str, ...] = ()

    def look(self, interval: Interval) -> Standing:
        """Judge after one more interval.

        A rollback is final: later looks only repeat it. Both thresholds reached at once roll back.

        Raises:
            UsageError: the interval is not one after the last, or not of a stage that can follow.
        """
        self._check(interval)
        if interval.stage != self._stage:
            self._begin(interval)
        self._until = interval.end
        missing = [*interval.missing, *self._count(interval)]
        judged = tuple(metric.judged() for metric in self._metrics)
        together = self._together(judged)
        action, reasons = self._decide(interval, missing, judged, together)
        return Standing(
            at=interval.end,
            stage=self._stage,
            stage_s=interval.end - self._began,
            action=action,
            reasons=reasons,
            log_e_rollback=together,
            rollback_at=self._rollback_at,
            promote_at=self._promote_at,
            log_e_sample_ratio=self._split.log_e,
            metrics=tuple(one.standing for one in judged),
        )

    def _check(self, interval: Interval) -> None:
        if not self._until <= interval.start < interval.end < math.inf:
            raise UsageError(
                f"a look from {interval.start:g} to {interval.end:g} cannot follow one that ended at {self._until:g};"
                " give the intervals in their order, each once"
            )
        if not max(self._stage, 0) <= interval.stage < len(self._rules.stages):
            raise UsageError(
                f"stage {interval.stage} cannot follow stage {self._stage} of {len(self._rules.stages)} with a control;"
                " stages count from 0 and never go back"
            )

    def _begin(self, interval: Interval) -> None:
        self._stage, self._began = interval.stage, interval.start
        stage = self._rules.stages[interval.stage]
        self._split.begin(stage.share)
        for metric in self._metrics:
            metric.begin(stage)

    def _count(self, interval: Interval) -> Iterator[Missing]:
        """Count what can be counted; what cannot is missing."""
        gone = {missing.metric for missing in interval.missing}
        if "requests" not in gone:
            if min(interval.canary_requests, interval.control_requests) < 0:
                yield Missing("requests", Trouble.MALFORMED, "requests: fewer than none were counted; look at the counter")
            else:
                self._split.update(interval.canary_requests, interval.control_requests)
        for metric in self._metrics:
            name = metric.rule.name
            if name in gone:
                continue
            observation: Observation | None = interval.observations.get(name)
            if observation is None:
                yield Missing(name, Trouble.EMPTY, f"{name}: the look holds nothing of it; see what reads this metric")
            elif problem := metric.observe(observation):
                yield Missing(name, Trouble.MALFORMED, f"{name}: {problem}")

    def _together(self, judged: tuple[Judged, ...]) -> float:
        """The mean of what the metrics show. One that is void shows nothing, which an e-value of 0 says; its weight stays."""
        logs = [-math.inf if self._void(one) else one.standing.log_e_worse for one in judged if one.compared]
        return float(log_mean(logs)) if any(log > -math.inf for log in logs) else 0.0

    def _void(self, one: Judged) -> bool:
        return one.doubt is not None or (one.split_matters and self._split.wrong)

    def _decide(
        self, interval: Interval, missing: list[Missing], judged: tuple[Judged, ...], together: float
    ) -> tuple[Action, tuple[str, ...]]:
        if not self._final:
            self._final = tuple(one.breach for one in judged if one.breach)
        if not self._final and together >= self._rollback_at and not self._split.favours_canary:
            self._final = tuple(self._carriers(judged))
        if self._final:
            return Action.ROLLBACK, self._final
        stage = self._rules.stages[self._stage]
        lasted = interval.end - self._began
        doubts = [*self._split.findings, *(one.detail for one in missing), *(one.doubt for one in judged if one.doubt)]
        needs = list(self._needs(judged))
        if lasted < stage.at_least_s:
            needs.append(f"the stage lasts at least {stage.at_least_s:g} s and has lasted {lasted:g} s")
        if not doubts and not needs:
            return Action.PROMOTE, tuple(one.standing.why for one in judged if one.standing.log_e_fine is not None)
        late = [f"deadline: no decision within {stage.at_most_s:g} s"] if lasted >= stage.at_most_s else []
        return Action.HOLD, (*late, *doubts, *needs)

    def _needs(self, judged: tuple[Judged, ...]) -> Iterator[str]:
        for one in judged:
            fine = one.standing.log_e_fine
            if fine is not None and not fine >= self._promote_at:  # so that a NaN does not pass
                yield one.needs

    def _carriers(self, judged: tuple[Judged, ...]) -> Iterator[str]:
        """The metrics that reach the threshold by themselves, or else the one that shows most."""
        shown = [one.standing for one in judged if one.compared and not self._void(one)]
        most = max(one.log_e_worse for one in shown)
        for standing in shown:
            if standing.log_e_worse >= min(self._rollback_at, most):
                yield f"{standing.why}; worse than allowed with an e-value of {_e_value(standing)}"


def _e_value(standing: MetricStanding) -> str:
    log10 = standing.log_e_worse / math.log(10.0)
    return f"{10**log10:,.0f}" if log10 < 6 else f"1e{log10:.0f}"


def _metric(rule: MetricRule, beta: float) -> Metric:
    match rule.kind:
        case Kind.RATIO:
            return Ratio(rule, beta)
        case Kind.HISTOGRAM:
            return Distribution(rule, beta)
        case Kind.CLASSES:
            return ClassMix(rule, beta)
        case Kind.CRASHES:
            return CrashCount(rule)
        case Kind.BOUNDED:
            return Bounded(rule, beta)
