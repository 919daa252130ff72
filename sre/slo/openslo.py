"""The documents of OpenSLO v1, as far as an objective over Prometheus needs them.

The rules are those of OpenSLO's own validator (github.com/OpenSLO/go-sdk), and some more: keys that the specification does not
know are refused, an SLO has at least one objective, and composite objectives are not read.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from sre.slo.windows import Severity

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_KEY = re.compile(r"[a-zA-Z0-9]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_SPAN = re.compile(r"([1-9]\d*)([mhdwMQY])")
_SPAN_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "M": 30 * 86_400, "Q": 90 * 86_400, "Y": 365 * 86_400}


def _name(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("write at most 63 lower-case letters, digits and hyphens, with no hyphen at either end")
    return value


def _key(value: str) -> str:
    if not _KEY.fullmatch(value.rpartition("/")[2]):
        raise ValueError("a key has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or digit")
    return value


def _span(value: str) -> str:
    if not _SPAN.fullmatch(value):
        raise ValueError("write a number of m, h, d, w, M (months), Q (quarters) or Y, as 28d")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("write a time zone of the IANA database, as UTC or Europe/Berlin") from None
    return value


def _moment(value: Any) -> str:
    # YAML makes a datetime of it, unless it is in quotes.
    text = value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) and value.tzinfo is None else value
    try:
        datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - the zone stands in its own field
    except (TypeError, ValueError):
        raise ValueError("write date and time without zone, as 2026-01-01 00:00:00") from None
    return str(text)


Name = Annotated[str, AfterValidator(_name)]
Key = Annotated[str, AfterValidator(_key)]
Span = Annotated[str, AfterValidator(_span)]
Description = Annotated[str, Field(max_length=1050)]
# YAML reads `1` as a whole number, and a target may be one.
Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]


def seconds(span: str) -> float:
    """Nominal length of a `Span`, s."""
    count, unit = split(span)
    return float(count * _SPAN_S[unit])


def split(span: str) -> tuple[int, str]:
    """Number and unit of a `Span`."""
    match = _SPAN.fullmatch(span)
    assert match is not None  # noqa: S101 - the type says so
    return int(match[1]), match[2]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel)


def _one_of(part: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        shown = " and ".join(to_camel(name) for name in names)
        raise ValueError(f"{shown} exclude each other and one is needed; found {len(given)}")


class Metadata(_Part):
    """Name and labels of anything."""

    name: Name
    display_name: Annotated[str, Field(max_length=63)] = ""
    labels: dict[Key, str | list[str]] = Field(default_factory=dict)
    annotations: dict[Key, str] = Field(default_factory=dict)


class Query(_Part):
    """What to ask Prometheus: a query, or how many observations of native histograms there were.

    Attributes:
        query: PromQL.
        native_histogram: a selector of native histograms.
        le: with it: count observations up to here, in the unit of the metric.
    """

    query: str | None = None
    native_histogram: str | None = None
    le: Number | None = None

    @model_validator(mode="after")
    def _holds(self) -> Self:
        _one_of(self, "query", "native_histogram")
        if self.le is not None and self.native_histogram is None:
            raise ValueError("le belongs to nativeHistogram; a bucket of a classic histogram stands in the query")
        return self


class MetricSource(_Part):
    """Where a metric comes from."""

    metric_source_ref: Name | None = None
    type: Literal["Prometheus", "prometheus"] = "Prometheus"
    spec: Query


class Metric(_Part):
    """One metric."""

    metric_source: MetricSource


class RatioMetric(_Part):
    """Good or bad events of all, or a ratio that is there already."""

    counter: bool = False
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric | None = None
    raw_type: Literal["success", "failure"] | None = None
    raw: Metric | None = None

    @model_validator(mode="after")
    def _holds(self) -> Self:
        _one_of(self, "total", "raw")
        if self.total is not None:
            _one_of(self, "good", "bad")
            if self.raw_type is not None:
                raise ValueError("rawType belongs to raw; delete it")
        elif self.good is not None or self.bad is not None:
            raise ValueError("raw is a ratio already; delete good and bad, or write total for raw")
        elif self.raw_type is None:
            raise ValueError("rawType must say whether raw is the share of `success` or of `failure`")
        return self


class IndicatorSpec(_Part):
    """What is measured."""

    description: Description = ""
    threshold_metric: Metric | None = None
    ratio_metric: RatioMetric | None = None

    @model_validator(mode="after")
    def _holds(self) -> Self:
        _one_of(self, "threshold_metric", "ratio_metric")
        return self


class Indicator(_Part):
    """An indicator inside an SLO."""

    metadata: Metadata
    spec: IndicatorSpec


class CalendarStart(_Part):
    """Since when periods of the calendar follow each other."""

    start_time: Annotated[str, BeforeValidator(_moment)]
    time_zone: Annotated[str, AfterValidator(_zone)]


class TimeWindow(_Part):
    """The period of the budget."""

    duration: Span
    is_rolling: bool = False
    calendar: CalendarStart | None = None

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if self.is_rolling == (self.calendar is not None):
            raise ValueError("write isRolling: true, or else calendar; one of the two is needed")
        return self


class Target(_Part):
    """One objective of an SLO."""

    display_name: str = ""
    op: Literal["lt", "lte", "gt", "gte"] | None = None
    value: Number | None = None
    target: Annotated[Number, Field(ge=0, lt=1)] | None = None
    target_percent: Annotated[Number, Field(ge=0, lt=100)] | None = None
    time_slice_target: Annotated[Number, Field(gt=0, le=1)] | None = None
    time_slice_window: Span | None = None

    @model_validator(mode="after")
    def _holds(self) -> Self:
        _one_of(self, "target", "target_percent")
        return self

    @property
    def share(self) -> float:
        """Share of good events."""
        return self.target if self.target is not None else float(f"{(self.target_percent or 0) / 100:.12g}")


class Condition(_Part):
    """Burn of the budget that alerts."""

    kind: Literal["burnrate"]
    op: Literal["gt", "gte"]
    threshold: Annotated[Number, Field(gt=0)]
    lookback_window: Span
    alert_after: Span | None = None


class ConditionSpec(_Part):
    """A condition, and how bad it is."""

    description: Description = ""
    severity: Annotated[Severity, Field(strict=False)]
    condition: Condition


class InlineCondition(_Part):
    """A condition inside a policy."""

    kind: Literal["AlertCondition"]
    metadata: Metadata
    spec: ConditionSpec


class ConditionRef(_Part):
    """A condition of another document."""

    condition_ref: Name


class PolicySpec(_Part):
    """What alerts whom. Targets are the alert manager's business here and are not followed."""

    description: Description = ""
    alert_when_no_data: bool = False
    alert_when_breaching: bool = False
    alert_when_resolved: bool = False
    conditions: Annotated[list[InlineCondition | ConditionRef], Field(min_length=1, max_length=1)]
    notification_targets: Annotated[list[dict[str, Any]], Field(min_length=1)]


class InlinePolicy(_Part):
    """A policy inside an SLO."""

    kind: Literal["AlertPolicy"]
    metadata: Metadata
    spec: PolicySpec


class PolicyRef(_Part):
    """A policy of another document."""

    alert_policy_ref: Name


class SloSpec(_Part):
    """What is promised."""

    description: Description = ""
    service: Annotated[str, Field(min_length=1)]
    indicator: Indicator | None = None
    indicator_ref: Name | None = None
    budgeting_method: Literal["Occurrences", "Timeslices", "RatioTimeslices"]
    time_window: Annotated[list[TimeWindow], Field(min_length=1, max_length=1)]
    objectives: Annotated[list[Target], Field(min_length=1)]
    alert_policies: list[InlinePolicy | PolicyRef] = Field(default_factory=list)

    @model_validator(mode="after")
    def _holds(self) -> Self:
        _one_of(self, "indicator", "indicator_ref")
        sliced = self.budgeting_method != "Occurrences"
        for target in self.objectives:
            if sliced and target.time_slice_window is None:
                raise ValueError(f"{self.budgeting_method} needs timeSliceWindow in every objective, as 1m")
            if self.budgeting_method == "Timeslices" and target.time_slice_target is None:
                raise ValueError("Timeslices needs timeSliceTarget in every objective, as 0.95")
        return self


class _Document(_Part):
    api_version: Literal["openslo/v1"]
    metadata: Metadata


class Slo(_Document):
    """A service level objective, or several over one indicator."""

    kind: Literal["SLO"]
    spec: SloSpec


class Sli(_Document):
    """An indicator that SLOs name."""

    kind: Literal["SLI"]
    spec: IndicatorSpec


class Service(_Document):
    """A service."""

    kind: Literal["Service"]
    spec: dict[str, Any] = Field(default_factory=dict)


class AlertPolicy(_Document):
    """A policy that SLOs name."""

    kind: Literal["AlertPolicy"]
    spec: PolicySpec


class AlertCondition(_Document):
    """A condition that policies name."""

    kind: Literal["AlertCondition"]
    spec: ConditionSpec


class Elsewhere(_Document):
    """What is described for other programs, and not read."""

    kind: Literal["DataSource", "AlertNotificationTarget"]
    spec: dict[str, Any]


Document = Slo | Sli | Service | AlertPolicy | AlertCondition | Elsewhere
KINDS: dict[str, type[Document]] = {
    "SLO": Slo,
    "SLI": Sli,
    "Service": Service,
    "AlertPolicy": AlertPolicy,
    "AlertCondition": AlertCondition,
    "DataSource": Elsewhere,
    "AlertNotificationTarget": Elsewhere,
}
