"""The mix of predicted classes."""

from __future__ import annotations

import math

import numpy as np

from sre.judges.canary.arms import Arms, Floats
from sre.judges.canary.decision import MetricStanding
from sre.judges.canary.metric import Judged
from sre.judges.canary.observation import Classes, Observation
from sre.judges.canary.rules import MetricRule, StageRule
from sre.measure.evidence import log_mean

GATING_SHARE = 0.5  # of an even share of the control's predictions, for a promotion to need evidence about a class
FIRST = 200  # predictions of the control by which the classes that gate are chosen


class ClassMix:
    """How often each class is predicted, of the canary against its control, both ways.

    Evidence of a shift is averaged over the classes and the two directions. Promotion needs evidence both ways for every class
    that had at least `GATING_SHARE` of an even share of the control's first predictions.

    Args:
        rule: of the metric; its labels are those that there may be.
        beta: probability at most of a wrong promotion.
    """

    def __init__(self, rule: MetricRule, beta: float) -> None:
        self.rule = rule
        self._beta = beta
        self._more, self._fewer = (Arms(rule, tests=len(rule.labels)) for _ in range(2))
        zero = np.zeros(len(rule.labels))
        self._canary, self._control, self._first = zero, zero, zero
        self._gating: Floats | None = None
        self._unknown: set[str] = set()

    def begin(self, stage: StageRule) -> None:
        """See `Metric`."""
        self._more.begin(stage.share)
        self._fewer.begin(1.0 - stage.share)
        self._canary, self._control = np.zeros_like(self._canary), np.zeros_like(self._control)

    def observe(self, observation: Observation) -> str | None:
        """See `Metric`."""
        if not isinstance(observation, Classes):
            return f"{type(observation).__name__} was read where predicted classes are expected"
        if problem := self._problem(observation):
            return problem
        self._count(observation)
        return None

    def _count(self, observation: Classes) -> None:
        self._unknown |= {
            label
            for label, count in zip(observation.labels, observation.canary, strict=True)
            if count and label not in self.rule.labels
        }
        canary, control = (self._ordered(observation.labels, counts) for counts in (observation.canary, observation.control))
        self._more.update(canary, control)
        self._fewer.update(control, canary)
        self._canary, self._control = self._canary + canary, self._control + control
        if self._gating is None:
            self._first = self._first + control
            if self._first.sum() >= FIRST:
                self._gating = self._first >= GATING_SHARE * self._first.sum() / len(self._first)

    @staticmethod
    def _problem(observation: Classes) -> str | None:
        """What contradicts itself or what was seen before."""
        labels = observation.labels
        if len(set(labels)) != len(labels) or {len(observation.canary), len(observation.control)} != {len(labels)}:
            return f"labels {list(labels)} need one count each of either arm; look at what was read"
        if not all(0 <= count < math.inf for count in (*observation.canary, *observation.control)):
            return "a class's count is no number of predictions; look at the counter"
        return None

    def judged(self) -> Judged:
        """See `Metric`."""
        rule = self.rule
        log_es = np.stack([self._more.log_e, self._fewer.log_e])
        fine = np.minimum(self._more.log_e_fine, self._fewer.log_e_fine)
        worst = int(np.argmax(log_es.max(axis=0)))
        canary, control = (_share(counts, worst) for counts in (self._canary, self._control))
        why = (
            f"{rule.name}: class {rule.labels[worst]} is {self._canary[worst]:,.0f} of the canary's"
            f" {self._canary.sum():,.0f} predictions, {self._control[worst]:,.0f} of the control's {self._control.sum():,.0f}"
        )
        shown = 0.0 if self._gating is None else float(fine[self._gating].min(initial=math.inf))
        standing = MetricStanding(
            name=rule.name,
            log_e_worse=float(log_mean(log_es.ravel())),
            log_e_fine=shown if rule.gates else None,
            canary=canary,
            control=control,
            unit=f"share of class {rule.labels[worst]}",
            n=int(self._more.n.sum()),
            dispersion=self._more.dispersion(worst),
            why=why,
        )
        return Judged(standing=standing, doubt=self._doubt(), needs=f"{why}; {self._waits(fine)}", split_matters=True)

    def _doubt(self) -> str | None:
        if self._unknown:
            return (
                f"{self.rule.name}: the canary predicts {', '.join(sorted(self._unknown))}, which the plan does not know;"
                f" labels are {', '.join(self.rule.labels)}"
            )
        return self._more.doubt()

    def _waits(self, fine: Floats) -> str:
        if self._gating is None:
            return f"{self._first.sum():,.0f} of the {FIRST} predictions of the control that say which classes gate"
        least = int(np.argmin(np.where(self._gating, fine, np.inf)))
        return f"class {self.rule.labels[least]}: {self._fewer.progress(least, self._beta)}"

    def _ordered(self, labels: tuple[str, ...], counts: tuple[int, ...]) -> Floats:
        found = dict(zip(labels, counts, strict=True))
        return np.array([found.get(label, 0) for label in self.rule.labels], dtype=np.float64)


def _share(counts: Floats, at: int) -> float | None:
    total = counts.sum()
    return float(counts[at] / total) if total else None
