"""Processes that ended: a bound, not a test."""

from __future__ import annotations

from sre.judges.canary.decision import MetricStanding
from sre.judges.canary.metric import Judged
from sre.judges.canary.observation import Crashes, Observation
from sre.judges.canary.rules import MetricRule, StageRule


class CrashCount:
    """How often the canary's processes ended, over all stages.

    Args:
        rule: of the metric; its limit is what is allowed.
    """

    def __init__(self, rule: MetricRule) -> None:
        self.rule = rule
        self._canary = self._control = 0
        self._seen = False

    def begin(self, stage: StageRule) -> None:
        """Nothing changes: crashes are counted over the whole rollout."""

    def observe(self, observation: Observation) -> str | None:
        """See `Metric`."""
        if not isinstance(observation, Crashes):
            return f"{type(observation).__name__} were read where crashes are expected"
        if problem := self._problem(observation):
            return problem
        self._count(observation)
        return None

    def _count(self, observation: Crashes) -> None:
        self._canary += observation.canary
        self._control += observation.control
        self._seen = True

    @staticmethod
    def _problem(observation: Crashes) -> str | None:
        """What contradicts itself or what was seen before."""
        if min(observation.canary, observation.control) < 0:
            return "fewer than no crashes were read"
        return None

    def judged(self) -> Judged:
        """A breach above the limit; evidence of nothing else."""
        name, limit = self.rule.name, self.rule.limit
        why = f"{name}: the canary's processes ended {self._canary} times, {limit} allowed; the control's {self._control} times"
        standing = MetricStanding(
            name=name,
            log_e_worse=0.0,
            log_e_fine=None,
            canary=float(self._canary) if self._seen else None,
            control=float(self._control) if self._seen else None,
            unit="crashes",
            n=self._canary + self._control,
            dispersion=None,
            why=why,
        )
        return Judged(
            standing=standing, compared=False, breach=f"{why}; that is a bound, not a test" if self._canary > limit else None
        )
