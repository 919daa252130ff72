"""A distribution in buckets: latencies, confidence scores."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sre.judges.canary.arms import Arms, Below, Floats
from sre.judges.canary.decision import MetricStanding
from sre.judges.canary.metric import Judged
from sre.judges.canary.observation import Histogram, Observation
from sre.judges.canary.rules import MetricRule, StageRule, Worse
from sre.measure.evidence import log_mean

_UNIT = "edge above the median"

GATING_SHARE = 0.05  # of the control's observations on the worse side of an edge, for a promotion to need evidence there
FIRST = 200  # observations of the control by which the edges that gate are chosen


class Distribution:
    """What lies on the worse side of every edge, of the canary against its control.

    Evidence that the canary is worse is averaged over all edges, so that a change of the tail alone is found. Promotion needs
    evidence at every edge beyond which at least `GATING_SHARE` of the control's first observations lay, and at the objective's.

    Args:
        rule: of the metric.
        beta: probability at most of a wrong promotion.
    """

    def __init__(self, rule: MetricRule, beta: float) -> None:
        self.rule = rule
        self._beta = beta
        self._arms = Arms(rule, tests=0)
        self._share = 0.5
        self._objective = None if rule.objective is None else Below(rule.objective.at_most)
        self._edges: tuple[float, ...] = ()
        self._canary = self._control = np.zeros(1)  # of the stage, per bucket
        self._first = np.zeros(1)
        self._gating: npt.NDArray[np.bool_] | None = None

    def begin(self, stage: StageRule) -> None:
        """See `Metric`."""
        self._share = stage.share
        self._arms.begin(stage.share)
        if self._objective is not None:
            self._objective.begin()
        self._canary, self._control = np.zeros_like(self._canary), np.zeros_like(self._control)

    def observe(self, observation: Observation) -> str | None:
        """See `Metric`."""
        if not isinstance(observation, Histogram):
            return f"{type(observation).__name__} was read where a histogram is expected"
        if problem := self._problem(observation):
            return problem
        self._count(observation)
        return None

    def _count(self, observation: Histogram) -> None:
        canary, control = np.array(observation.canary, float), np.array(observation.control, float)
        if not self._edges:
            self._edges = observation.edges
            self._arms = Arms(self.rule, tests=len(self._edges))
            self._arms.begin(self._share)
        beyond = self._beyond(canary)
        self._arms.update(beyond, self._beyond(control))
        self._canary, self._control = self._canary + canary, self._control + control
        if self._objective is not None and self.rule.objective is not None and self.rule.objective.edge is not None:
            at = self._edges.index(self.rule.objective.edge)
            self._objective.update(float(beyond[at]), float(canary.sum()), float(self._arms.burst[at]))
        if self._gating is None:
            self._first = self._first + control
            if self._first.sum() >= FIRST:
                self._gating = self._beyond(self._first) >= GATING_SHARE * self._first.sum()

    def _problem(self, observation: Histogram) -> str | None:
        """What contradicts itself or what was seen before."""
        edges = observation.edges
        if not edges or not all(map(math.isfinite, edges)) or list(edges) != sorted(set(edges)):
            return f"edges {list(edges)} are not finite and ascending; look at the buckets"
        if {len(observation.canary), len(observation.control)} != {len(edges) + 1}:
            return f"{len(edges)} edges need {len(edges) + 1} buckets of each arm; look at what was read"
        if not all(0 <= count < math.inf for count in (*observation.canary, *observation.control)):
            return "a bucket's count is no number of observations; look at the counter"
        if self._edges and edges != self._edges:
            return f"edges {list(edges)} were {list(self._edges)} before; a canary is judged on the same buckets throughout"
        edge = self.rule.objective.edge if self.rule.objective else None
        if self.rule.objective and edge not in edges:
            return f"the objective's edge {edge} is none of {list(edges)}; give one that is a bucket's"
        return None

    def judged(self) -> Judged:
        """See `Metric`."""
        if not self._edges:
            nothing = self._nothing()
            return Judged(standing=nothing, needs=nothing.why)
        rule, log_es = self.rule, self._arms.log_e
        parts = [self._edges_fine()]
        if self._objective is not None:
            parts.append(self._objective.log_e_fine)
        canary, control = self._middle(self._canary), self._middle(self._control)
        worst = int(np.argmax(log_es))
        why = f"{rule.name}: {self._beyond_edge(worst)}"
        standing = MetricStanding(
            name=rule.name,
            log_e_worse=float(log_mean(log_es)),
            log_e_fine=min(parts) if rule.gates else None,
            canary=canary,
            control=control,
            unit=_UNIT,
            n=int(self._arms.n.max()),
            dispersion=self._arms.dispersion(worst),
            why=why,
        )
        return Judged(standing=standing, doubt=self._arms.doubt(), needs=f"{why}; {self._waits(parts)}")

    def _nothing(self) -> MetricStanding:
        return MetricStanding(
            name=self.rule.name,
            log_e_worse=0.0,
            log_e_fine=0.0 if self.rule.gates else None,
            canary=None,
            control=None,
            unit=_UNIT,
            n=0,
            dispersion=None,
            why=f"{self.rule.name}: nothing was observed yet",
        )

    def _beyond(self, counts: Floats) -> Floats:
        """Of counts per bucket, those on the worse side of each edge."""
        up_to = np.cumsum(counts)[:-1]
        return counts.sum() - up_to if self.rule.worse is Worse.HIGHER else up_to

    def _edges_fine(self) -> float:
        """The least evidence over the edges that gate; none gates when an objective alone decides."""
        if self._gating is None:
            return 0.0
        if not self._gating.any():
            return 0.0 if self._objective is None else math.inf
        return float(self._arms.log_e_fine[self._gating].min())

    def _middle(self, counts: Floats) -> float | None:
        """The edge at or below which at least half of the observations lie; the last one when that is above it."""
        if not counts.sum():
            return None
        at = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
        return self._edges[min(at, len(self._edges) - 1)]

    def _beyond_edge(self, at: int) -> str:
        side = "above" if self.rule.worse is Worse.HIGHER else "at or below"
        canary, control = self._beyond(self._canary)[at], self._beyond(self._control)[at]
        return (
            f"{canary:,.0f} of the canary's {self._canary.sum():,.0f} observations are {side} {self._edges[at]:g},"
            f" {control:,.0f} of the control's {self._control.sum():,.0f}"
        )

    def _waits(self, parts: list[float]) -> str:
        """What a promotion waits for."""
        at, waits = math.log(1.0 / self._beta), []
        if self._gating is None:
            waits.append(f"{self._first.sum():,.0f} of the {FIRST} observations of the control that say which edges gate")
        elif self._gating.any() and parts[0] < at:
            least = int(np.argmin(np.where(self._gating, self._arms.log_e_fine, np.inf)))
            waits.append(f"at edge {self._edges[least]:g} {self._arms.progress(least, self._beta)}")
        elif not self._gating.any() and self._objective is None:
            waits.append(f"no edge has {GATING_SHARE:.0%} of the control on its worse side; give an objective or finer buckets")
        if self.rule.objective is not None and parts[-1] < at:
            waits.append(f"not yet shown to be below the objective of {self.rule.objective.at_most:.3g}")
        return " and ".join(waits)
