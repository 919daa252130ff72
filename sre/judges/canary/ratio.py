"""Bad requests among all: errors, invalid answers, requests without a feature."""

from __future__ import annotations

import math

import numpy as np

from sre.judges.canary.arms import Arms, Below
from sre.judges.canary.decision import MetricStanding
from sre.judges.canary.metric import Judged
from sre.judges.canary.observation import Events, Observation
from sre.judges.canary.rules import MetricRule, StageRule
from sre.measure.evidence import log_mean


class Ratio:
    """The canary's share of bad requests against its control's, and against the objective.

    Args:
        rule: of the metric.
        beta: probability at most of a wrong promotion.
    """

    def __init__(self, rule: MetricRule, beta: float) -> None:
        self.rule = rule
        self._beta = beta
        self._arms = Arms(rule, tests=1)
        self._objective = None if rule.objective is None else Below(rule.objective.at_most)
        self._negligible = Below(rule.negligible) if rule.negligible else None
        self._stage = Events(0, 0, 0, 0)

    def begin(self, stage: StageRule) -> None:
        """See `Metric`."""
        self._arms.begin(stage.share)
        for below in (self._objective, self._negligible):
            if below is not None:
                below.begin()
        self._stage = Events(0, 0, 0, 0)

    def observe(self, observation: Observation) -> str | None:
        """See `Metric`."""
        if not isinstance(observation, Events):
            return f"{type(observation).__name__} was read where events among requests are expected"
        if problem := self._problem(observation):
            return problem
        self._count(observation)
        return None

    def _count(self, observation: Events) -> None:
        self._arms.update(np.array([observation.canary], float), np.array([observation.control], float))
        for below in (self._objective, self._negligible):
            if below is not None:
                below.update(observation.canary, observation.canary_of, float(self._arms.burst[0]))
        self._stage = Events(
            self._stage.canary + observation.canary,
            self._stage.canary_of + observation.canary_of,
            self._stage.control + observation.control,
            self._stage.control_of + observation.control_of,
        )

    @staticmethod
    def _problem(observation: Events) -> str | None:
        """What contradicts itself or what was seen before."""
        if not (
            0 <= observation.canary <= observation.canary_of < math.inf
            and 0 <= observation.control <= observation.control_of < math.inf
        ):
            return (
                f"{observation.canary} of {observation.canary_of} requests of the canary and {observation.control} of"
                f" {observation.control_of} of the control cannot be bad; look at the two counters"
            )
        return None

    def judged(self) -> Judged:
        """See `Metric`."""
        seen, rule = self._stage, self.rule
        within = float(self._arms.log_e_fine[0])
        if self._negligible is not None:
            within = float(log_mean([within, self._negligible.log_e_fine]))
        kept = math.inf if self._objective is None else self._objective.log_e_fine
        canary = seen.canary / seen.canary_of if seen.canary_of else None
        control = seen.control / seen.control_of if seen.control_of else None
        why = (
            f"{rule.name}: {seen.canary:,} of {seen.canary_of:,} requests of the canary were bad{_share(canary)},"
            f" {seen.control:,} of {seen.control_of:,} of the control{_share(control)}"
        )
        standing = MetricStanding(
            name=rule.name,
            log_e_worse=float(self._arms.log_e[0]),
            log_e_fine=min(within, kept) if rule.gates else None,
            canary=canary,
            control=control,
            unit="share of requests",
            n=int(self._arms.n[0]),
            dispersion=self._arms.dispersion(0),
            why=why,
        )
        at = math.log(1.0 / self._beta)
        needs = []
        if within < at:
            needs.append(self._arms.progress(0, self._beta))
        if kept < at and rule.objective is not None:
            needs.append(f"not yet shown to be below the objective of {rule.objective.at_most:.3g}")
        return Judged(
            standing=standing,
            doubt=self._arms.doubt(),
            needs=f"{why}; {' and '.join(needs)}" if needs else "",
        )


def _share(value: float | None) -> str:
    return "" if value is None else f" ({value:.3%})"
