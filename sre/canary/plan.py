"""The plan of a canary, `experiments/canary.yaml`: read strictly, so that a mistyped line is refused and not half obeyed."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sre import documents
from sre.canary import promql
from sre.config import PROJECT
from sre.errors import UsageError
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, Rules, StageRule, Worse
from sre.judges.canary.soundness import check
from sre.units import Ratio, Seconds, parse_ratio

PLAN = PROJECT / "experiments" / "canary.yaml"
TRACKS = ("canary", "control")
REQUESTS = "requests"

_MAX_FACTOR = 100.0


def _duration(value: Any) -> Seconds:
    seconds = documents.duration(value, "2s or 10m")
    if seconds <= 0:
        raise ValueError("a duration must be longer than nothing")
    return seconds


def _percent(value: Any) -> Ratio:
    if not isinstance(value, str) or not value.endswith("%"):
        raise ValueError("write per cent, as 1%")
    try:
        ratio = parse_ratio(value)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if ratio <= 0:
        raise ValueError("it must be above 0%")
    return ratio


def _excess(value: Any) -> float:
    """What a factor adds: `2x` is 1.0."""
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)?x", value):
        raise ValueError("write a factor, as 2x: up to twice as bad as the control")
    times = float(value[:-1])
    if not 1.0 <= times <= _MAX_FACTOR:
        raise ValueError(f"a factor lies between 1x and {_MAX_FACTOR:g}x")
    return times - 1.0


def _edge(value: Any) -> float:
    if isinstance(value, str):
        return _duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("write a bucket's upper edge, as 500ms or 0.7")  # noqa: TRY004 - pydantic collects ValueError
    return float(value)


Duration = Annotated[Seconds, BeforeValidator(_duration)]
Percent = Annotated[Ratio, BeforeValidator(_percent)]
Excess = Annotated[float, BeforeValidator(_excess)]
Selector = Annotated[str, AfterValidator(promql.selector)]
Expression = Annotated[str, AfterValidator(promql.expression)]
Direction = Annotated[Worse, Field(strict=False)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Errors(_Part):
    """The stated error rates.

    Attributes:
        rollback: of ever rolling back a canary that is within all margins.
        promote: of ever promoting one that is beyond a margin or an objective.
        sample_ratio: of ever calling a right split of traffic wrong.
    """

    rollback: Percent
    promote: Percent
    sample_ratio: Percent

    @model_validator(mode="after")
    def _rare(self) -> Self:
        if max(self.rollback, self.promote, self.sample_ratio) >= 0.5:
            raise ValueError("an error rate must be below 50%; at that rate a coin decides as well")
        return self


class Stage(_Part):
    """One stage.

    Attributes:
        weight: share of all traffic for the canary.
        at_least, at_most: how long it lasts, s.
        approval: whether a person is asked before it begins.
    """

    weight: Percent
    at_least: Duration
    at_most: Duration
    approval: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.at_least >= self.at_most:
            raise ValueError("at_most must be longer than at_least")
        return self

    @property
    def control(self) -> float:
        """Share of all traffic for the control: as much as the canary gets, or what is left."""
        return min(self.weight, 1.0 - self.weight)


class NoData(_Part):
    """How long data may be missing in one go before the canary is rolled back, s."""

    rollback_after: Duration


class RatioObjective(_Part):
    """The largest share of requests that may be bad, whatever the control does."""

    at_most: Percent


class HistogramObjective(_Part):
    """The largest share of observations that may lie on the worse side of a bucket's upper edge."""

    at_most: Percent
    edge: Annotated[float, BeforeValidator(_edge)]


class _Compared(_Part):
    margin: Excess
    proven: Excess | None = None
    model: Annotated[Model, Field(strict=False)] = Model.BURSTY
    gates: bool = True


class RatioMetric(_Compared):
    """Events among others: a counter, and the counter of what it is a part of.

    A canary whose share of events is below `negligible` is fine whatever its control's.
    """

    kind: Literal["ratio"]
    events: Selector
    of: Literal["requests"] | Selector
    negligible: Percent | None = None
    objective: RatioObjective | None = None

    def selectors(self) -> tuple[str, ...]:
        """Of its counters; `requests` stands for the plan's own."""
        return (self.events, self.of)

    def rule(self, name: str) -> MetricRule:
        """For the gate."""
        objective = Objective(at_most=self.objective.at_most) if self.objective else None
        return MetricRule(
            name=name, kind=Kind.RATIO, model=self.model, margin=self.margin, proven=self.proven,
            negligible=self.negligible or 0.0, objective=objective, gates=self.gates,
        )  # fmt: skip


class HistogramMetric(_Compared):
    """A histogram's buckets."""

    kind: Literal["histogram"]
    buckets: Selector
    worse: Direction
    objective: HistogramObjective | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not promql.name(self.buckets).endswith("_bucket") or "le" in promql.matched(self.buckets):
            raise ValueError("buckets must name all buckets of a classic histogram: name_bucket{...} without le")
        return self

    def selectors(self) -> tuple[str, ...]:
        """Of its counters."""
        return (self.buckets,)

    def rule(self, name: str) -> MetricRule:
        """For the gate."""
        objective = Objective(at_most=self.objective.at_most, edge=self.objective.edge) if self.objective else None
        return MetricRule(
            name=name, kind=Kind.HISTOGRAM, model=self.model, worse=self.worse, margin=self.margin, proven=self.proven,
            objective=objective, gates=self.gates,
        )  # fmt: skip


class CrashesMetric(_Part):
    """Processes that ended and began again; more than `limit` of the canary roll back."""

    kind: Literal["crashes"]
    started: Selector
    limit: int = Field(ge=0)

    def selectors(self) -> tuple[str, ...]:
        """Of the gauges of start times."""
        return (self.started,)

    def rule(self, name: str) -> MetricRule:
        """For the gate. A bound is no evidence that all is fine, so it never gates."""
        return MetricRule(name=name, kind=Kind.CRASHES, limit=self.limit, gates=False)


class ClassesMetric(_Compared):
    """Predictions by class: a counter with a label for the class, and the classes that there are."""

    kind: Literal["classes"]
    predictions: Selector
    label: str
    labels: Annotated[list[str], Field(min_length=2)]

    @model_validator(mode="after")
    def _all_classes(self) -> Self:
        if self.label in promql.matched(self.predictions):
            raise ValueError(f"predictions must count every class: take {self.label} out of the selector")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must name each class once")
        return self

    def selectors(self) -> tuple[str, ...]:
        """Of its counters."""
        return (self.predictions,)

    def rule(self, name: str) -> MetricRule:
        """For the gate."""
        return MetricRule(
            name=name, kind=Kind.CLASSES, model=self.model, margin=self.margin, proven=self.proven, gates=self.gates,
            labels=tuple(self.labels),
        )  # fmt: skip


class BoundedMetric(_Compared):
    """Any PromQL whose value at an instant is one number between `low` and `high`."""

    kind: Literal["bounded"]
    value: Expression
    low: float = Field(strict=False)
    high: float = Field(strict=False)
    worse: Direction

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self

    def selectors(self) -> tuple[str, ...]:
        """It has no counters."""
        return ()

    def rule(self, name: str) -> MetricRule:
        """For the gate."""
        return MetricRule(
            name=name, kind=Kind.BOUNDED, model=self.model, worse=self.worse, margin=self.margin, proven=self.proven,
            gates=self.gates,
        )  # fmt: skip


Metric = Annotated[
    RatioMetric | HistogramMetric | CrashesMetric | ClassesMetric | BoundedMetric, Field(discriminator="kind")
]  # fmt: skip


class Plan(_Part):
    """The whole plan.

    Attributes:
        name: of the registered model.
        scrape: interval at which Prometheus scrapes the arms, s; what is older than two of them is stale.
        requests: counter of the requests that an arm answered.
        slo: file of objectives, beside the plan; they may refuse the start and are watched at 100 %.
    """

    schema_: Literal["sre.canary/1"] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    scrape: Duration
    errors: Errors
    requests: Selector
    stages: Annotated[list[Stage], Field(min_length=1)]
    no_data: NoData
    at_deadline: Literal["hold", "rollback"]
    slo: str | None = None
    metrics: Annotated[dict[Name, Metric], Field(min_length=1)]

    @model_validator(mode="after")
    def _stages_grow(self) -> Self:
        weights = [stage.weight for stage in self.stages]
        if any(later <= earlier for earlier, later in pairwise(weights)):
            raise ValueError("stages must grow in weight, for example 10%, 50%, 100%")
        if weights[0] >= 1.0:
            raise ValueError("stages must begin below 100%: with all traffic on the canary there is nothing to compare it with")
        if any(stage.at_least < 2 * self.scrape for stage in self.stages):
            raise ValueError("at_least of every stage must be two scrapes or more")
        return self

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if REQUESTS in self.metrics:
            raise ValueError("metrics must not hold `requests`, which is the counter above; name it otherwise")
        if self.no_data.rollback_after < 2 * self.scrape:
            raise ValueError("no_data.rollback_after must be two scrapes or more")
        try:
            check(self.rules())
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def rules(self) -> Rules:
        """By what the gate judges: the metrics, and the stages that have a control."""
        stages = [stage for stage in self.stages if stage.control > 0]
        return Rules(
            alpha=self.errors.rollback,
            beta=self.errors.promote,
            sample_ratio_alpha=self.errors.sample_ratio,
            metrics=tuple(metric.rule(name) for name, metric in self.metrics.items()),
            stages=tuple(
                StageRule(
                    weight=stage.weight, share=stage.weight / (stage.weight + stage.control),
                    at_least_s=stage.at_least, at_most_s=stage.at_most,
                )
                for stage in stages
            ),
        )  # fmt: skip

    def up(self) -> str:
        """Selector of Prometheus' own record of scrapes: `up` with the job and the arm of `requests`."""
        return promql.of_targets(self.requests, "up")

    def started(self) -> str:
        """Selector of the start times of the processes behind `requests`."""
        return promql.of_targets(self.requests, "process_start_time_seconds")

    def selectors(self, metric: Metric) -> tuple[str, ...]:
        """Of a metric's counters."""
        return tuple(self.requests if selector == REQUESTS else selector for selector in metric.selectors())

    def raw(self) -> tuple[str, ...]:
        """Every selector whose raw samples a look reads, `up` left out; each once."""
        found = [self.started(), self.requests]
        found += [selector for metric in self.metrics.values() for selector in self.selectors(metric)]
        return tuple(dict.fromkeys(found))

    def values(self) -> tuple[str, ...]:
        """Every expression whose value a look reads; each once."""
        return tuple(dict.fromkeys(metric.value for metric in self.metrics.values() if isinstance(metric, BoundedMetric)))


def load(path: Path = PLAN) -> Plan:
    """Read the plan.

    Raises:
        UsageError: it is not there or not a plan; the message names the file, and line and field of everything wrong.
    """
    return documents.load(path, Plan)


def parse(text: str, name: str = PLAN.name) -> Plan:
    """Read the text of a plan.

    Args:
        text: YAML.
        name: of the file, for messages.

    Raises:
        UsageError: as `load` does.
    """
    return documents.parse(text, name, Plan)
