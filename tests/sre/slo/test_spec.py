from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sre.errors import UsageError
from sre.slo.objective import Budgeting, Calendar, Objective
from sre.slo.promql import Term
from sre.slo.spec import load, parse
from sre.slo.windows import Severity, Window
from tests.sre.slo.examples import LATENCY, OURS, SLICES, SLOTH, THRESHOLD


def only(text: str) -> Objective:
    (objective,) = parse(text, "slo.yaml")
    return objective


def test_our_own_file_says_what_was_promised() -> None:
    found = {objective.name: objective for objective in load(OURS)}
    assert {name: (one.target, one.edge) for name, one in found.items()} == {
        "availability": (0.999, None),
        "latency-p95": (0.95, 0.5),
        "latency-p99": (0.99, 1.0),
        "errors": (0.999, None),
    }
    assert {one.period_s for one in found.values()} == {30 * 86_400}
    assert all(one.service == "ml-api" and one.independent and len(one.windows) == 4 for one in found.values())


def test_an_indicator_of_another_document_and_labels() -> None:
    objective = only(LATENCY)
    assert (objective.target, objective.allowed, objective.period_s) == (0.995, 0.005, 28 * 86_400)
    assert objective.bad.terms == (Term(1, "order_seconds_count"), Term(-1, r'order_seconds_bucket{le=~"2(\\.0)?"}'))
    assert objective.edge == 2
    assert objective.alerting.labels == {"team.name": "shop", "tier": "gold,web"}


def test_slices_of_a_quarter_of_the_calendar() -> None:
    objective = only(SLICES)
    zone = ZoneInfo("Europe/Berlin")
    assert objective.budgeting is Budgeting.TIMESLICES
    assert (objective.slice_s, objective.slice_target, objective.independent) == (60, 0.95, False)
    assert objective.calendar == Calendar(datetime(2026, 1, 1, tzinfo=zone), 1, "Q")
    assert objective.period_s == 90 * 86_400
    assert [window.factor for window in objective.windows] == pytest.approx([43.2, 18, 9, 3])


def test_ratio_timeslices_have_no_slice_target() -> None:
    objective = only(SLICES.replace("Timeslices", "RatioTimeslices"))
    assert (objective.budgeting, objective.slice_s, objective.slice_target) == (Budgeting.RATIO_TIMESLICES, 60, None)


def test_a_threshold_is_sampled_and_a_policy_replaces_the_windows() -> None:
    objective = only(THRESHOLD)
    assert objective.sampled
    assert not objective.independent
    assert not objective.bad.terms
    assert "> bool 10" in objective.bad.over(300)
    assert objective.windows == (Window(Severity.TICKET, 7200, 600, 3, 600),)


def test_a_policy_may_stand_inside() -> None:
    inline = """\
    - kind: AlertPolicy
      metadata: {name: fast}
      spec:
        notificationTargets: [{targetRef: on-call}]
        conditions:
          - kind: AlertCondition
            metadata: {name: ten-times}
            spec: {severity: page, condition: {kind: burnrate, op: gte, threshold: 10, lookbackWindow: 1h}}
"""
    objective = only(THRESHOLD.replace("    - alertPolicyRef: slow-burn\n", inline))
    assert objective.windows == (Window(Severity.PAGE, 3600, 300, 10),)


def test_several_objectives_of_one_indicator_get_numbers() -> None:
    found = parse(LATENCY + "    - target: 0.9\n", "slo.yaml")
    assert [(one.name, one.target) for one in found] == [("order-latency-1", 0.995), ("order-latency-2", 0.9)]


def test_windows_that_could_never_fire_are_left_out() -> None:
    objective = only(LATENCY.replace("targetPercent: 99.5", "target: 0.9"))
    assert [window.long_s for window in objective.windows] == [6 * 3600, 86_400, 3 * 86_400]


def test_a_precomputed_ratio_is_sampled() -> None:
    raw = "    rawType: success\n    raw:\n      metricSource: {type: Prometheus, spec: {query: share_fast}}\n"
    start, end = LATENCY.index("    good:"), LATENCY.index("---", LATENCY.index("    good:"))
    objective = only(LATENCY[:start] + raw + LATENCY[end:])
    assert objective.sampled
    assert "1 - " in objective.bad.over(300)
    assert "1 - " not in objective.total.over(300)


def test_native_histograms() -> None:
    text = LATENCY.replace("query: 'sum(order_seconds_bucket{le=\"2\"})'", "nativeHistogram: order_seconds, le: 2")
    objective = only(text.replace("query: 'sum(order_seconds_count)'", "nativeHistogram: order_seconds"))
    assert objective.independent
    assert "histogram_fraction(-Inf, 2, sum(increase(order_seconds[5m])))" in objective.bad.over(300)
    assert objective.total.over(
        300
    ) == "sum(histogram_count(sum(increase(order_seconds[5m]))))" or "histogram_count" in objective.total.over(300)


def test_files_of_both_kinds_and_documents_for_others_stand_together() -> None:
    source = "apiVersion: openslo/v1\nkind: DataSource\nmetadata: {name: prom}\nspec: {type: Prometheus}\n"
    found = parse(f"{SLOTH}---\n{source}---\n{LATENCY}", "slo.yaml")
    assert [one.name for one in found] == ["delivery", "uptime", "order-latency"]


@pytest.mark.parametrize(
    ("text", "old", "new", "at", "says"),
    [
        (LATENCY, "openslo/v1\nkind: SLO\n", "openslo/v2\nkind: SLO\n", "openslo/v2", "apiVersion is 'openslo/v2'"),
        (LATENCY, "kind: SLI\n", "kind: Sli\n", "kind: Sli", "write one of SLO, SLI"),
        (LATENCY, "name: order-latency", "name: Order_Latency", "name: Order", "lower-case letters, digits and hyphens"),
        (LATENCY, "service: shop", "service: shopp", "service: shopp", "no document of kind Service is named 'shopp'"),
        (LATENCY, "indicatorRef: fast", "indicatorRef: slow", "indicatorRef", "no document of kind SLI is named 'slow'"),
        (LATENCY, "  indicatorRef: fast\n", "", "spec:", "indicator and indicatorRef exclude each other and one is needed"),
        (LATENCY, "duration: 28d", "duration: 28 days", "duration", "write a number of m, h, d, w, M"),
        (LATENCY, ", isRolling: true", "", "duration", "write isRolling: true, or else calendar"),
        (LATENCY, "  timeWindow: [{duration: 28d, isRolling: true}]\n", "", "spec:", "timeWindow: Field required"),
        (LATENCY, "Method: Occurrences", "Method: Occurences", "budgeting", "Input should be 'Occurrences'"),
        (LATENCY, "Method: Occurrences", "Method: RatioTimeslices", "spec:", "RatioTimeslices needs timeSliceWindow"),
        (LATENCY, "targetPercent: 99.5", "targetPercent: 100", "targetPercent", "is 100: Input should be less than 100"),
        (LATENCY, "targetPercent: 99.5", "target: 99.5", "target:", "is 99.5: Input should be less than 1"),
        (LATENCY, "targetPercent: 99.5", "target: 0.9\n      targetPercent: 90", "- target",
         "target and targetPercent exclude each other"),
        (LATENCY, "sum(order_seconds_count)", "sum(order_seconds_count", "sum(order_seconds_count'", "unclosed left parenthesis"),
        (LATENCY, "sum(order_seconds_count)", "sum(rate(order_seconds_count[5m]))", "rate(", "has a window of its own"),
        (LATENCY, "sum(order_seconds_count)", "max(order_seconds_count)", "max(", "is no sum of counters"),
        (LATENCY, "type: Prometheus, spec: {query: 'sum(order_seconds_count)'}", "type: Datadog, spec: {query: a}", "Datadog",
         "Input should be 'Prometheus'"),
        (LATENCY, "    counter: true\n", "    counter: true\n    raw: {metricSource: {spec: {query: a}}}\n", "ratioMetric",
         "total and raw exclude each other"),
        (LATENCY, "    good:", "    god:", "god:", "ratioMetric.god: Extra inputs"),
        (SLICES, "      timeSliceTarget: 0.95\n", "", "spec:", "Timeslices needs timeSliceTarget"),
        (SLICES, "timeSliceTarget: 0.95", "timeSliceTarget: 0", "timeSliceTarget", "greater than 0"),
        (SLICES, "Europe/Berlin", "Europe/Berlln", "Berlln", "IANA"),
        (SLICES, "2026-01-01 00:00:00", "2026-01-01T00:00:00Z", "calendar", "without zone, as 2026-01-01 00:00:00"),
        (SLICES, "(requests_total[{{.window}}]", "(requests_total[5m] offset {{.window}}", "offset", "where no range is"),
        (THRESHOLD, "      value: 10\n", "", "- op:", "needs op and value"),
        (THRESHOLD, "op: gt,", "op: lt,", "condition:", "Input should be 'gt' or 'gte'"),
        (THRESHOLD, "severity: ticket", "severity: whatever", "severity", "Input should be 'page' or 'ticket'"),
        (THRESHOLD, "conditionRef: three-times", "conditionRef: four-times", "conditions:", "of kind AlertCondition is named"),
        (THRESHOLD, "alertPolicyRef: slow-burn", "alertPolicyRef: fast-burn", "alertPolicyRef", "of kind AlertPolicy is named"),
        (THRESHOLD, "targetRef: on-call}]", "targetRef: on-call}]\n  conditions: []", "conditions: []", "is set a second time"),
        (THRESHOLD, "query: 'max(replication_lag_seconds{job=\"db\"})'", "nativeHistogram: lag", "nativeHistogram",
         "a histogram has no single value"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_line_and_a_remedy(text: str, old: str, new: str, at: str, says: str) -> None:
    assert text.count(old) == 1
    changed = text.replace(old, new)
    lines = [number for number, line in enumerate(changed.splitlines(), 1) if at in line]
    with pytest.raises(UsageError) as raised:
        parse(changed, "slo.yaml")
    assert says in str(raised.value)
    assert any(f"slo.yaml:{line}: " in str(raised.value) for line in lines)


def test_a_file_without_an_objective_and_one_that_is_not_there(tmp_path: Path) -> None:
    service = LATENCY.split("---\n", maxsplit=1)[0]
    with pytest.raises(UsageError, match="has no objective; write a document of kind SLO"):
        parse(service, "slo.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "slo.yaml")


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"same name: shop/order-latency; rename one"):
        parse("---\n".join([LATENCY, LATENCY.split("---\n", maxsplit=2)[2]]), "slo.yaml")


def test_an_objective_is_a_value() -> None:
    assert only(LATENCY) == only(LATENCY)
    assert replace(only(LATENCY), target=0.9).allowed == 0.1
