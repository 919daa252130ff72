"""Files of objectives: OpenSLO v1, with as many documents as one likes, and Sloth's `prometheus/v1`.

Both become the same `Objective`. A file that is wrong is refused as a whole, with line, field and remedy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast
from zoneinfo import ZoneInfo

from sre import documents
from sre.errors import UsageError
from sre.slo import openslo, promql, sloth
from sre.slo.objective import Alerting, Budgeting, Calendar, Objective
from sre.slo.place import Place
from sre.slo.promql import Count
from sre.slo.windows import MINUTE_S, SHORT, Window, usable, workbook

Kind = TypeVar("Kind", openslo.Sli, openslo.AlertPolicy, openslo.AlertCondition)

_WORSE = {"lt": ">=", "lte": ">", "gt": "<=", "gte": "<"}


def load(path: Path) -> tuple[Objective, ...]:
    """Read a file of objectives.

    Raises:
        UsageError: it cannot be read, or `parse` refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); name another file, or restore it from version control") from error
    return parse(text, path.name)


def parse(text: str, name: str) -> tuple[Objective, ...]:
    """Read the text of a file of objectives.

    Args:
        text: YAML.
        name: of the file, for messages.

    Raises:
        UsageError: it is neither OpenSLO v1 nor Sloth's prometheus/v1, or breaks their rules.
    """
    found: list[Objective] = []
    read: list[tuple[openslo.Document, Place]] = []
    for root, document in documents.split(text, name):
        if isinstance(document, dict) and "version" in document:
            found += sloth.objectives(documents.check(root, document, name, sloth.Spec), Place(root, name))
            continue
        kind = str(document.get("kind")) if isinstance(document, dict) else ""
        if kind not in openslo.KINDS:
            raise Place(root, name, ("kind",)).wrong(
                f"{kind!r} is not known; write one of {', '.join(openslo.KINDS)}, or version: prometheus/v1 for a file of Sloth"
            )
        read.append((documents.check(root, document, name, openslo.KINDS[kind]), Place(root, name)))
    found += _File(tuple(read)).objectives()
    if not found:
        raise UsageError(f"{name} has no objective; write a document of kind SLO")
    keys = [f"{objective.service}/{objective.name}" for objective in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UsageError(f"{name} has objectives of the same name: {', '.join(twice)}; rename one")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _File:
    """The OpenSLO documents of a file, each with its place. They name each other."""

    read: tuple[tuple[openslo.Document, Place], ...]

    def objectives(self) -> list[Objective]:
        """Those of every SLO."""
        services = {document.metadata.name for document, _ in self.read if isinstance(document, openslo.Service)}
        found: list[Objective] = []
        for document, at in self.read:
            if not isinstance(document, openslo.Slo):
                continue
            service = document.spec.service
            if services and service not in services:
                raise at.of("spec", "service").wrong(
                    f"no document of kind Service is named {service!r}; add one, or correct the name"
                )
            found += [self._objective(document, index, at.of("spec")) for index in range(len(document.spec.objectives))]
        return found

    def _objective(self, slo: openslo.Slo, index: int, at: Place) -> Objective:
        spec, target, window = slo.spec, slo.spec.objectives[index], slo.spec.time_window[0]
        indicator, indicator_at = self._indicator(slo.spec, at)
        ratio = indicator.ratio_metric
        if ratio is None and (target.op is None or target.value is None):
            raise at.of("objectives", index).wrong("a thresholdMetric needs op and value, as op: lt and value: 0.5")
        bad, total = _counts(indicator, target, indicator_at)
        budgeting = Budgeting(spec.budgeting_method)
        slices = budgeting is not Budgeting.OCCURRENCES and target.time_slice_window is not None
        slice_s = openslo.seconds(target.time_slice_window) if slices and target.time_slice_window else None
        goods = [term.selector for term in bad.terms if term.sign < 0]
        labels = slo.metadata.labels.items()
        text = target.display_name or spec.description or indicator.description or slo.metadata.display_name
        return Objective(
            name=slo.metadata.name if len(spec.objectives) == 1 else f"{slo.metadata.name}-{index + 1}",
            service=spec.service,
            description=" ".join(text.split()),
            target=target.share,
            period_s=openslo.seconds(window.duration),
            calendar=_calendar(window),
            budgeting=budgeting,
            slice_s=slice_s,
            slice_target=target.time_slice_target if budgeting is Budgeting.TIMESLICES else None,
            bad=bad,
            total=total,
            sampled=ratio is None or ratio.raw is not None or not ratio.counter,
            edge=promql.edge(goods[0]) if len(goods) == 1 else None,
            windows=_sliced(self._windows(slo.spec, target, at), slice_s or 0.0),
            alerting=Alerting({key: value if isinstance(value, str) else ",".join(value) for key, value in labels}),
        )

    def _named(self, kind: type[Kind], name: str, at: Place) -> tuple[Kind, Place]:
        for document, other in self.read:
            if isinstance(document, kind) and document.metadata.name == name:
                return document, other.of("spec")
        raise at.wrong(f"no document of kind {kind.__name__.replace('Sli', 'SLI')} is named {name!r}; add one")

    def _indicator(self, spec: openslo.SloSpec, at: Place) -> tuple[openslo.IndicatorSpec, Place]:
        """The indicator of an SLO, and where it stands."""
        if spec.indicator is not None:
            return spec.indicator.spec, at.of("indicator", "spec")
        document, place = self._named(openslo.Sli, spec.indicator_ref or "", at.of("indicatorRef"))
        return document.spec, place

    def _windows(self, spec: openslo.SloSpec, target: openslo.Target, at: Place) -> tuple[Window, ...]:
        """Those of the alert policies, or the workbook's when there is no policy."""
        if not spec.alert_policies:
            return usable(workbook(openslo.seconds(spec.time_window[0].duration)), 1 - target.share)
        policies = enumerate(spec.alert_policies)
        conditions = [self._condition(policy, at.of("alertPolicies", index)) for index, policy in policies]
        return tuple(_window(condition) for condition in conditions)

    def _condition(self, policy: openslo.InlinePolicy | openslo.PolicyRef, at: Place) -> openslo.ConditionSpec:
        """The condition of a policy, wherever the two stand."""
        if isinstance(policy, openslo.InlinePolicy):
            spec, at = policy.spec, at.of("spec")
        else:
            found, at = self._named(openslo.AlertPolicy, policy.alert_policy_ref, at.of("alertPolicyRef"))
            spec = found.spec
        condition = spec.conditions[0]
        if isinstance(condition, openslo.InlineCondition):
            return condition.spec
        return self._named(openslo.AlertCondition, condition.condition_ref, at.of("conditions", 0, "conditionRef"))[0].spec


def _window(spec: openslo.ConditionSpec) -> Window:
    condition = spec.condition
    long_s = openslo.seconds(condition.lookback_window)
    for_s = openslo.seconds(condition.alert_after) if condition.alert_after else 0.0
    return Window(spec.severity, long_s, max(long_s / SHORT, MINUTE_S), condition.threshold, for_s)


def _sliced(windows: tuple[Window, ...], slice_s: float) -> tuple[Window, ...]:
    """Windows that hold at least one slice."""
    return tuple(replace(window, short_s=max(window.short_s, slice_s)) for window in windows if window.long_s >= slice_s)


def _calendar(window: openslo.TimeWindow) -> Calendar | None:
    if window.calendar is None:
        return None
    start = datetime.fromisoformat(window.calendar.start_time).replace(tzinfo=ZoneInfo(window.calendar.time_zone))
    return Calendar(start, *openslo.split(window.duration))


def _counts(indicator: openslo.IndicatorSpec, target: openslo.Target, at: Place) -> tuple[Count, Count]:
    """Bad events and all events. The models have seen to it that what is needed is there."""
    if indicator.threshold_metric is not None:
        badness = f"{{}} {_WORSE[target.op or 'lt']} bool {target.value!r}"
        return _samples(indicator.threshold_metric, badness, at.of("thresholdMetric"))
    ratio, at = cast("openslo.RatioMetric", indicator.ratio_metric), at.of("ratioMetric")
    if ratio.raw is not None:
        return _samples(ratio.raw, "{}" if ratio.raw_type == "failure" else "1 - {}", at.of("raw"))
    total = _count(cast("openslo.Metric", ratio.total), counter=ratio.counter, at=at.of("total"))
    if ratio.bad is not None:
        return _count(ratio.bad, counter=ratio.counter, at=at.of("bad")), total
    return promql.minus(total, _count(cast("openslo.Metric", ratio.good), counter=ratio.counter, at=at.of("good"))), total


def _samples(metric: openslo.Metric, badness: str, at: Place) -> tuple[Count, Count]:
    text, at = metric.metric_source.spec.query, at.of("metricSource", "spec", "query")
    if text is None:
        raise at.wrong("a histogram has no single value; write query in place of nativeHistogram")
    with at.blamed():
        return promql.samples(text, MINUTE_S, badness)


def _count(metric: openslo.Metric, *, counter: bool, at: Place) -> Count:
    """Events of one metric in a window."""
    query, at = metric.metric_source.spec, at.of("metricSource", "spec")
    if query.native_histogram is not None:
        with at.of("nativeHistogram").blamed():
            return promql.native(query.native_histogram, query.le)
    with at.of("query").blamed():
        return promql.counter(query.query or "") if counter else promql.samples(query.query or "", MINUTE_S, "{}")[0]
