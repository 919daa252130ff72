"""Specifications of Sloth, `prometheus/v1`.

The rules are those of Sloth's own validator (github.com/slok/sloth). Its plugins are programs and are not run.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sre.slo import promql
from sre.slo.objective import Alerting as Alerts
from sre.slo.objective import Objective
from sre.slo.place import Place
from sre.slo.promql import Count
from sre.slo.windows import Severity, usable, workbook

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
PERIOD_S = 30 * 86_400.0  # Sloth's, unless its command line says otherwise


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("write letters, digits, `-`, `_` and `.`, and begin and end with a letter or digit")
    return value


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value) or value == "__name__":
        raise ValueError("a label of Prometheus has letters, digits and `_`, and no digit first")
    return value


def _windowed(value: str) -> str:
    if not re.search(r"\{\{-?\s*\.window\s*-?\}\}", value):
        raise ValueError("write {{.window}} as the range of the query")
    return value


Name = Annotated[str, AfterValidator(_name)]
Labels = dict[Annotated[str, AfterValidator(_label)], str]
Query = Annotated[str, AfterValidator(_windowed)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Raw(_Part):
    """A share of bad events."""

    error_ratio_query: Query


class Events(_Part):
    """Bad events and all events."""

    error_query: Query
    total_query: Query

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.error_query == self.total_query:
            raise ValueError("error_query and total_query are the same, so that every event would be bad; correct one")
        return self


class Indicator(_Part):
    """What is measured."""

    raw: Raw | None = None
    events: Events | None = None
    plugin: Any = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.plugin is not None:
            raise ValueError("plugins are programs and are not run; write what it generates as events")
        if (self.raw is None) == (self.events is None):
            raise ValueError("raw and events exclude each other and one is needed")
        return self


class Alert(_Part):
    """Alerts of one severity."""

    disable: bool = False
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)


class Alerting(_Part):
    """All alerts of an objective. Alerts are named here after what happened, and Sloth's name becomes a label."""

    name: str = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)
    page_alert: Alert = Field(default_factory=Alert)
    ticket_alert: Alert = Field(default_factory=Alert)

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name and not (self.page_alert.disable and self.ticket_alert.disable):
            raise ValueError("alerting.name is needed, unless both alerts are disabled")
        return self

    @property
    def by_severity(self) -> dict[Severity, Alert]:
        """The alerts of each severity."""
        return {Severity.PAGE: self.page_alert, Severity.TICKET: self.ticket_alert}


class Slo(_Part):
    """One objective; `objective` in per cent."""

    name: Name
    description: str = ""
    objective: Annotated[float, Field(strict=False, gt=0, lt=100)]
    labels: Labels = Field(default_factory=dict)
    sli: Indicator
    alerting: Alerting


class Spec(_Part):
    """One file."""

    version: Literal["prometheus/v1"]
    service: Name
    labels: Labels = Field(default_factory=dict)
    slos: Annotated[list[Slo], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [slo.name for slo in self.slos]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"slos have the same name: {', '.join(twice)}; rename one")
        return self


def objectives(spec: Spec, at: Place) -> list[Objective]:
    """The objectives of a file.

    Args:
        spec: the file.
        at: its place, for messages.

    Raises:
        UsageError: a query is not PromQL, or has its window in the wrong place.
    """
    return [_objective(spec, slo, at.of("slos", index, "sli")) for index, slo in enumerate(spec.slos)]


def _objective(spec: Spec, slo: Slo, at: Place) -> Objective:
    with at.blamed():
        bad, total = _counts(slo.sli)
    target = float(f"{slo.objective / 100:.12g}")
    alerts = slo.alerting.by_severity
    named = {"sloth_alert": slo.alerting.name} if slo.alerting.name else {}
    return Objective(
        name=slo.name,
        service=spec.service,
        description=" ".join(slo.description.split()),
        target=target,
        period_s=PERIOD_S,
        bad=bad,
        total=total,
        sampled=slo.sli.events is None,
        windows=tuple(window for window in usable(workbook(PERIOD_S), 1 - target) if not alerts[window.severity].disable),
        alerting=Alerts(
            labels=spec.labels | slo.labels | slo.alerting.labels | named,
            annotations=slo.alerting.annotations,
            severity_labels={severity: alert.labels for severity, alert in alerts.items()},
        ),
    )


def _counts(sli: Indicator) -> tuple[Count, Count]:
    """Bad events and all events. The model has seen to it that one of the two is there."""
    if sli.events is not None:
        return promql.counter(sli.events.error_query), promql.counter(sli.events.total_query)
    return promql.ratio(cast("Raw", sli.raw).error_ratio_query)
