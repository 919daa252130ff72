"""Rules of Prometheus for objectives: what is recorded, and what alerts.

Counts are recorded, never ratios, so that what is added up later is weighed by events:

* `slo:total:increase<w>`, `slo:bad:increase<w>`: events in a window; sliced objectives count slices, and have them in
  `slo:slice:bad`. Without traffic both are 0. Without a metric, or with NaN in it, they are not there.
* `slo:burn:rate<w>`: how often the budget would be spent in its period at the pace of that window; 0 without traffic.
* `slo:budget:left`: share of the budget of the whole period that is left, below 0 when overspent.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from sre.judges.budget import EVIDENCE
from sre.slo.objective import Budgeting, Objective
from sre.slo.promql import duration, parse, quoted
from sre.slo.windows import MINUTE_S, Severity, Window

BURN, UNKNOWN = "ErrorBudgetBurn", "ErrorBudgetUnknown"
RUNBOOKS = {BURN: "error-budget-burn", UNKNOWN: "error-budget-unknown"}
BASE_S = 5 * MINUTE_S  # of the counts that the period is added up from
EVERY_S = 30.0  # between two evaluations
UNKNOWN_AFTER_S = 5 * MINUTE_S  # at the latest
_SUMMED_EVERY_S = 5 * MINUTE_S

Rule = dict[str, Any]


def rules(objectives: tuple[Objective, ...], runbooks: str) -> dict[str, Any]:
    """A rule file, as a document.

    Args:
        objectives: any number.
        runbooks: where the runbooks stand, an address without a slash at its end.
    """
    return {"groups": [group for objective in objectives for group in _groups(objective, runbooks)]}


def text(document: dict[str, Any]) -> str:
    """A document as YAML, the same for the same document; queries stand over several lines."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def selector(name: str, objective: Objective) -> str:
    """The series of an objective that the rules record under a name."""
    return parse(f"{name}{{slo={quoted(objective.name)}, service={quoted(objective.service)}}}").prettify()


def base_s(objective: Objective) -> float:
    """The shortest window that is recorded, s."""
    return min((window.short_s for window in objective.windows), default=max(BASE_S, objective.slice_s or 0.0))


def unknown_after_s(objective: Objective) -> float:
    """How long a metric is missing before it alerts, s: as long as a total outage would take to, and no longer than 5 min."""
    outages = [window.detected_s(objective.allowed, 1.0) for window in objective.windows]
    return float(int(min([UNKNOWN_AFTER_S, *(outage for outage in outages if outage is not None)])))


def burning(objective: Objective, window: Window) -> str:
    """The condition of one pair of windows, as PromQL; its value is the burn rate of the long one.

    Both windows burn faster than the factor. Where events are independent there are also so many bad ones that it is no chance,
    by the bound of `sre.judges.budget.evident`: with m expected bad events and b counted, `b ln(b/m) - b + m > ln 20`.
    """
    long, short = (selector(f"slo:burn:rate{duration(span)}", objective) for span in (window.long_s, window.short_s))
    condition = f"{long} > {window.factor:.12g} and {short} > {window.factor:.12g}"
    if objective.independent:
        bad, total = (selector(f"slo:{name}:increase{duration(window.long_s)}", objective) for name in ("bad", "total"))
        expected = f"{window.factor * objective.allowed:.12g} * {total}"
        condition += f" and {bad} * ln({bad} / ({expected})) - {bad} + {expected} > {EVIDENCE:.6g}"
    return parse(condition).prettify()


def _groups(objective: Objective, runbooks: str) -> list[dict[str, Any]]:
    name = f"slo-{objective.service}-{objective.name}"
    spans = sorted({base_s(objective), *(span for window in objective.windows for span in (window.long_s, window.short_s))})
    recorded = [rule for span_s in spans for rule in _counts(objective, span_s)]
    alerts = [_burn(objective, window, runbooks) for window in objective.windows]
    groups = [
        {"name": name, "interval": duration(EVERY_S), "rules": [*recorded, *alerts, _unknown(objective, runbooks)]},
        {"name": f"{name}-period", "interval": duration(_SUMMED_EVERY_S), "rules": [_left(objective)]},
    ]
    if objective.slice_s:
        groups.insert(0, {"name": f"{name}-slices", "interval": duration(objective.slice_s), "rules": _slices(objective)})
    return groups


def _record(name: str, expression: str, objective: Objective) -> Rule:
    labels = {"slo": objective.name, "service": objective.service}
    return {"record": name, "expr": parse(expression).prettify(), "labels": labels}


def _events(objective: Objective, span_s: float, total: str, bad: str) -> list[Rule]:
    """Record the events of a window. NaN is dropped; bad events that are nowhere counted are none."""
    bad_expression, known = f"({objective.bad.over(span_s)})", selector(total, objective)
    nothing = f"(0 * {known} unless on () {bad_expression})"
    return [
        _record(total, f"({objective.total.over(span_s)}) >= 0", objective),
        _record(bad, f"clamp_min({bad_expression}, 0) >= 0 or on () {nothing}", objective),
    ]


def _slices(objective: Objective) -> list[Rule]:
    """Record each slice that had an event: 1 or 0 for a bad or a good one, or its share of bad events."""
    share = f"{selector('slo:slice_bad:increase', objective)} / ({selector('slo:slice_total:increase', objective)} > 0)"
    if objective.budgeting is Budgeting.TIMESLICES:
        # Twelve digits: 1 - 0.9 must not make a slice bad whose share is the target.
        share = f"({share}) > bool {1 - (objective.slice_target or 0):.12g}"
    events = _events(objective, objective.slice_s or 0, "slo:slice_total:increase", "slo:slice_bad:increase")
    return [*events, _record("slo:slice:bad", share, objective)]


def _counts(objective: Objective, span_s: float) -> list[Rule]:
    """Record the counts and the burn rate of one window."""
    span = duration(span_s)
    total, bad = f"slo:total:increase{span}", f"slo:bad:increase{span}"
    if objective.slice_s:
        slices = selector("slo:slice:bad", objective)
        # A slice that had no event is not recorded, and is 0 here as long as its metric is there.
        idle = f"0 * last_over_time({selector('slo:slice_bad:increase', objective)}[{duration(2 * objective.slice_s)}])"
        counts = [
            _record(total, f"count_over_time({slices}[{span}]) or {idle}", objective),
            _record(bad, f"sum_over_time({slices}[{span}]) or {idle}", objective),
        ]
    else:
        counts = _events(objective, span_s, total, bad)
    bads, totals = selector(bad, objective), selector(total, objective)
    burn = f"{bads} / ({totals} > 0) / {objective.allowed:.12g} or 0 * {bads}"
    return [*counts, _record(f"slo:burn:rate{span}", burn, objective)]


def _left(objective: Objective) -> Rule:
    """Record what is left of the budget: bad and total counts are added up apart, so that every event weighs the same."""
    period, base = duration(objective.period_s), duration(base_s(objective))
    if objective.slice_s:
        slices = selector("slo:slice:bad", objective)
        bad, total = f"sum_over_time({slices}[{period}])", f"count_over_time({slices}[{period}])"
    else:
        bad, total = (
            f"sum_over_time({selector(f'slo:{name}:increase{base}', objective)}[{period}])" for name in ("bad", "total")
        )
    full = f"1 + 0 * {selector(f'slo:bad:increase{base}', objective)}"
    return _record("slo:budget:left", f"1 - {bad} / ({total} > 0) / {objective.allowed:.12g} or {full}", objective)


def _burn(objective: Objective, window: Window, runbooks: str) -> Rule:
    long, short = duration(window.long_s), duration(window.short_s)
    summary = (
        f'the error budget of {objective.service}/{objective.name} burns {{{{ $value | printf "%.1f" }}}} times as fast as it '
        f"lasts, over {long} and over {short}"
    )
    rule: Rule = {"alert": BURN, "expr": burning(objective, window)}
    if window.for_s:
        rule["for"] = duration(window.for_s)
    return rule | _labelled(objective, window.severity, long, summary, f"{runbooks}/{RUNBOOKS[BURN]}.md")


def _unknown(objective: Objective, runbooks: str) -> Rule:
    """Alert on what cannot be judged: counters that are gone, at once and not when they have left the windows, or are NaN."""
    if objective.slice_s:
        recorded = selector("slo:slice_bad:increase", objective)
        absences = [f"absent(last_over_time({recorded}[{duration(2 * objective.slice_s)}]))"]
    else:
        absences = [f"absent({selector(f'slo:bad:increase{duration(base_s(objective))}', objective)})"]
    absences += [f"absent({term.selector})" for term in objective.total.terms if term.sign > 0]
    severities = [window.severity for window in objective.windows]
    severity = Severity.PAGE if Severity.PAGE in severities else Severity.TICKET
    summary = f"nobody knows whether {objective.service}/{objective.name} is kept: its metrics are missing"
    rule: Rule = {
        "alert": UNKNOWN,
        "expr": parse(f"sum({' or '.join(absences)}) > 0").prettify(),
        "for": duration(unknown_after_s(objective)),
    }
    return rule | _labelled(objective, severity, None, summary, f"{runbooks}/{RUNBOOKS[UNKNOWN]}.md")


def _labelled(objective: Objective, severity: Severity, window: str | None, summary: str, runbook: str) -> Rule:
    """Labels and annotations of an alert. What the file says comes last, except for what tells one alert from another."""
    alerting = objective.alerting
    own = {re.sub(r"\W", "_", key, flags=re.ASCII): value for key, value in alerting.labels.items()}
    identity = {"slo": objective.name, "service": objective.service} | ({"window": window} if window else {})
    annotations = {"summary": summary, "description": objective.description, "runbook_url": runbook}
    return {
        "labels": {"severity": severity.value} | own | dict(alerting.severity_labels.get(severity, {})) | identity,
        "annotations": {key: value for key, value in annotations.items() if value} | dict(alerting.annotations),
    }


class _Dumper(yaml.SafeDumper):
    """Writes queries as people do, over several lines, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's signature
        return True


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", "\n".join(map(str.rstrip, value.splitlines())) if style else value, style
    )


_Dumper.add_representer(str, _string)
