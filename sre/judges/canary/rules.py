"""By what a canary is judged: the plan without where its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is observed, and thereby how it is judged."""

    RATIO = "ratio"
    HISTOGRAM = "histogram"
    CLASSES = "classes"
    CRASHES = "crashes"
    BOUNDED = "bounded"


class Model(StrEnum):
    """How events come.

    INDEPENDENT: one by one; counts are compared, which is fast and exact. BURSTY: several at once (retries, one bad node, a
    stalled machine); whole intervals of arms of equal size are compared, which holds whatever happens within one.
    """

    INDEPENDENT = "independent"
    BURSTY = "bursty"


class Worse(StrEnum):
    """The direction in which a metric gets worse."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Objective:
    """What the canary must keep whatever its control does.

    Attributes:
        at_most: largest share of requests that may be bad.
        edge: for histograms: what is on the worse side of this bucket edge is bad. None for ratios, whose events are bad.
    """

    at_most: float
    edge: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """One metric.

    Attributes:
        name: in the plan.
        kind, model, worse: see there.
        margin: tolerated relative excess of the canary: 0.25 lets its rate be 1.25 times the control's.
        proven: relative excess that a rollback proves; None: the margin. 0 rolls back what is worse at all, as counts of bursty
            metrics always do: arms are exchangeable at no other ratio.
        negligible: for ratios: a canary whose share of bad requests is below this is fine whatever its control's; 0: none is.
        objective: None when there is none.
        limit: for crashes: more of the canary than these roll back. It is a bound, not a test.
        gates: whether a promotion needs evidence that this metric is fine. What does not gate can still roll back.
        labels: for classes: those that there are.
    """

    name: str
    kind: Kind
    model: Model = Model.BURSTY
    worse: Worse = Worse.HIGHER
    margin: float = 1.0
    proven: float | None = None
    negligible: float = 0.0
    objective: Objective | None = None
    limit: int = 0
    gates: bool = True
    labels: tuple[str, ...] = ()

    @property
    def rollback_margin(self) -> float:
        """See `proven`."""
        return self.margin if self.proven is None else self.proven


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRule:
    """One stage of a rollout.

    Attributes:
        weight: share of all traffic that the canary gets.
        share: the canary's share of what the two arms get together; 0.5 for arms of equal size; 1 when there is no control.
        at_least_s: it lasts at least so long, whatever the evidence.
        at_most_s: without a decision by then, it holds and asks.
    """

    weight: float
    share: float
    at_least_s: float
    at_most_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The whole gate.

    Attributes:
        alpha: probability at most of ever rolling back a canary that is within all margins (for bursty metrics: as good as its
            control), over all looks, metrics and stages.
        beta: probability at most of ever promoting one that is beyond a margin or an objective, at whatever look.
        sample_ratio_alpha: probability at most of ever calling a right split of traffic wrong.
        metrics: in the order of the plan.
        stages: those with a control, in order.
    """

    alpha: float
    beta: float
    sample_ratio_alpha: float
    metrics: tuple[MetricRule, ...]
    stages: tuple[StageRule, ...]
