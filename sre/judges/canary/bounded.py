"""A value between two bounds, by its mean over each look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sre.judges.canary.arms import held_back
from sre.judges.canary.decision import MetricStanding
from sre.judges.canary.metric import Judged
from sre.judges.canary.observation import Means, Observation
from sre.judges.canary.rules import MetricRule, StageRule, Worse
from sre.measure.evidence import Restarting, log_mean

Floats = npt.NDArray[np.float64]

_STAKES = np.array([0.1, 0.25, 0.5, 0.9])  # shares of what may be lost on one look


class Bounded:
    """The canary's mean against its control's, look by look.

    Args:
        rule: of the metric.
        beta: probability at most of a wrong promotion.
    """

    def __init__(self, rule: MetricRule, beta: float) -> None:
        self.rule = rule
        self._beta = beta
        self._worse = Restarting(lambda: _Ahead(rule.rollback_margin))
        self._fine = _Within(rule.margin)
        self._carried = 0.0
        self._canary = self._control = 0.0  # sums over the stage
        self._looks = self._of_stage = 0

    def begin(self, stage: StageRule) -> None:  # noqa: ARG002 - means do not depend on the share of traffic
        """See `Metric`."""
        if self._looks:
            self._worse.stage(lambda: _Ahead(self.rule.rollback_margin))
        self._carried += float(self._fine.log_e)
        self._fine = _Within(self.rule.margin)
        self._canary = self._control = 0.0
        self._of_stage = 0

    def observe(self, observation: Observation) -> str | None:
        """See `Metric`."""
        if not isinstance(observation, Means):
            return f"{type(observation).__name__} was read where means are expected"
        for mean in (observation.canary, observation.control):
            if not 0.0 <= mean <= 1.0:
                return f"a mean of {mean:g} lies outside of its bounds (0..1 when scaled); look at the query and at its bounds"
        arms = (observation.canary, observation.control)
        if self.rule.worse is Worse.LOWER:
            arms = arms[::-1]  # the control may have so many times the canary's
        self._worse.update(*arms)
        self._fine.update(*arms)
        self._canary += observation.canary
        self._control += observation.control
        self._looks += 1
        self._of_stage += 1
        return None

    def judged(self) -> Judged:
        """See `Metric`."""
        rule, looks = self.rule, self._of_stage
        canary, control = (total / looks if looks else None for total in (self._canary, self._control))
        why = f"{rule.name}: nothing was observed yet in this stage"
        if canary is not None and control is not None:
            why = f"{rule.name}: mean {canary:.4g} of the canary, {control:.4g} of the control, scaled to 0..1, {looks:,} looks"
        standing = MetricStanding(
            name=rule.name,
            log_e_worse=float(self._worse.log_e),
            log_e_fine=float(held_back(self._carried, self._fine.log_e)) if rule.gates else None,
            canary=canary,
            control=control,
            unit="mean, scaled to 0..1",
            n=self._looks,
            dispersion=None,
            why=why,
        )
        return Judged(standing=standing, needs=f"{why}; not yet shown to be within {1 + rule.margin:g}x; narrower bounds help")


class _Ahead:
    """Evidence that the canary has more (canary-slo.md 1.9): a bet on each difference, scaled by those before it.

    A theorem when the two arms would be exchangeable in each look if the margin were taken from the canary.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._logs: Floats = np.zeros_like(_STAKES)
        self._sizes, self._looks = 0.0, 0

    def update(self, canary: npt.ArrayLike, control: npt.ArrayLike, /) -> None:
        """Take the means of one look."""
        ahead = float(np.asarray(canary) / (1.0 + self._margin) - np.asarray(control))
        if self._sizes:
            typical = 2.0 * self._sizes / self._looks
            self._logs = self._logs + np.log1p(_STAKES * np.clip(ahead / typical, -1.0, 1.0))
        self._sizes += abs(ahead)
        self._looks += 1

    @property
    def log_e(self) -> Floats:
        """See the class."""
        return log_mean(self._logs)


class _Within:
    """Evidence that the canary's mean is below `1 + margin` times the control's, whatever the distribution in the bounds.

    The capital of one who bets on each look (Waudby-Smith and Ramdas 2020, arXiv 2010.09686): 1 + stake (1 + margin) control -
    canary, which is fair at the margin and never loses more than the stake.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._logs: Floats = np.zeros_like(_STAKES)

    def update(self, canary: float, control: float) -> None:
        """Take the means of one look."""
        self._logs = self._logs + np.log1p(_STAKES * ((1.0 + self._margin) * control - canary))

    @property
    def log_e(self) -> Floats:
        """See the class."""
        return log_mean(self._logs)
