"""promtool unit tests for the rules of an objective: when each alert fires, and when it does not.

The counters are made by hand, one sample a minute, so that it is known beforehand when an alert fires: `Window.detected_s` after
the last good sample. Rules are evaluated every minute for windows of hours, and every five minutes for windows of days.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import Any

import promql_parser
from promql_parser import Matcher, MatchOp, VectorSelector

from sre.slo import rules
from sre.slo.objective import Budgeting, Objective
from sre.slo.promql import Term, duration, quoted
from sre.slo.windows import DAY_S, MINUTE_S, Window

A_MINUTE = 1e8  # events, so many that no chance is left in them

Labels = dict[str, str]
Values = list[float]


def tests(objective: Objective, rule_file: str) -> dict[str, dict[str, Any]]:
    """Test files for promtool, as documents, by how often they evaluate: `1m` and `5m`.

    Args:
        objective: whose rules stand in the file.
        rule_file: its name, beside the test files.

    Returns:
        Nothing when the events are no counters of plain selectors, for then no input can be made up.
    """
    if not objective.bad.terms or not objective.total.terms or _series(objective, [0.0], [0.0]) is None:
        return {}
    cases: dict[int, list[dict[str, Any]]] = {1: [_idle(objective), _reset(objective), _gone(objective), _nan(objective)]}
    if objective.independent and objective.windows:
        cases[1].append(_sparse(objective))
    for window in objective.windows:
        cases.setdefault(_step(window), []).append(_outage(objective, window))
    return {
        f"{step}m": {"rule_files": [rule_file], "evaluation_interval": f"{step}m", "tests": found}
        for step, found in cases.items()
    }


def fires_after(objective: Objective, window: Window, bad_share: float) -> int:
    """After how many minutes of an outage an alert fires, when traffic is steady and nothing failed before.

    Args:
        objective: whose budget burns.
        window: of the alert.
        bad_share: of the events of the outage.
    """
    step, waits = _step(window), math.ceil(window.for_s / MINUTE_S)
    if not objective.slice_s:
        detected = ((window.detected_s(objective.allowed, bad_share) or math.inf) - window.for_s) / MINUTE_S
        return (math.floor(detected / step) + 1) * step + waits
    slices, burned = int(window.long_s / MINUTE_S) // step, 0.0
    for index in range(1, slices + 1):
        share = bad_share * min(1.0, index * step * MINUTE_S / objective.slice_s)
        sliced = objective.budgeting is Budgeting.TIMESLICES
        burned += float(share > 1 - (objective.slice_target or 0)) if sliced else share
        # Both ends of a window belong to it.
        if burned > window.factor * objective.allowed * (slices + 1):
            return index * step + waits
    raise ValueError("an outage of all events never fires; such windows are left out when the file is read")


def _step(window: Window) -> int:
    """Minutes between two evaluations."""
    return 1 if window.long_s < DAY_S else 5


def _outage(objective: Objective, window: Window) -> dict[str, Any]:
    """The alert fires in the evaluation computed, not in the one before, and ends when the short window has passed."""
    step, long, short = _step(window), int(window.long_s / MINUTE_S), math.ceil(window.short_s / MINUTE_S)
    slowest = window.factor * objective.allowed * long
    # Half a step past a whole one, so that no rounding decides.
    share = slowest / ((math.floor(max(slowest, long / 6) / step) + 0.5) * step) if not objective.slice_s else 1.0
    fires, began = fires_after(objective, window, share), long + step
    ended = began + fires + short
    bad = [0.0] * began + [share * A_MINUTE] * (ended - began) + [0.0] * (2 * short + 3 * step)
    # Slices are judged at their end, so that the evaluation may be the one before or after.
    spare = 0 if not objective.slice_s else step
    at = {began + fires - step - spare: False, began + fires + spare: True, ended: True, ended + short + step + spare: False}
    expected = [_firing(objective, rules.BURN, minute, fired, window) for minute, fired in at.items()]
    return _case(objective, f"burns over {duration(window.long_s)}", [A_MINUTE - one for one in bad], bad, expected)


def _quiet(objective: Objective, since: int, until: int) -> list[dict[str, Any]]:
    """No alert in any minute of five."""
    expression = f"ALERTS{_braces(objective, alertstate='firing')}"
    return [{"expr": expression, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(since, until, 5)]


def _idle(objective: Objective) -> dict[str, Any]:
    """Without traffic nothing fires, and nothing burns."""
    good = [A_MINUTE] * 10 + [0.0] * 90
    base = duration(rules.base_s(objective))
    series = f"slo:burn:rate{base}"
    burn = {"expr": f"{series}{_braces(objective)}", "eval_time": "100m",
            "exp_samples": [{"labels": f"{series}{_braces(objective)}", "value": 0}]}  # fmt: skip
    return _case(objective, "idle", good, [0.0] * len(good), [*_quiet(objective, 0, 100), burn])


def _reset(objective: Objective) -> dict[str, Any]:
    """Counters that begin again are no outage."""
    good = [A_MINUTE] * 120
    case = _case(objective, "counters begin again", good, [0.0] * len(good), _quiet(objective, 0, 240))
    for series in case["input_series"]:
        series["values"] += f" {series['values']}"
    return case


def _gone(objective: Objective) -> dict[str, Any]:
    """Metrics that vanish alert within the time that a total outage would take, and never burn."""
    return _vanishing(objective, "metrics vanish", "stale", 0)


def _nan(objective: Objective) -> dict[str, Any]:
    """NaN is no number of events: it burns nothing, and is told as missing once the window holds nothing else."""
    # What was recorded of slices is looked for in the last two.
    late = math.ceil(2 * (objective.slice_s or 0) / MINUTE_S)
    return _vanishing(objective, "counters are NaN", " ".join(["NaN"] * 60), late)


def _vanishing(objective: Objective, name: str, ending: str, late: int) -> dict[str, Any]:
    good = [A_MINUTE] * 20
    gone = len(good) + 1
    fires = gone + math.ceil(rules.unknown_after_s(objective) / MINUTE_S)
    expected = [
        _firing(objective, rules.UNKNOWN, minute, fired, None) for minute, fired in ((fires - 1, False), (fires + late, True))
    ]
    expected += [
        _firing(objective, rules.BURN, minute, False, window)
        for minute in range(gone, gone + 30, 5)
        for window in objective.windows
    ]
    case = _case(objective, name, good, [0.0] * len(good), expected)
    for series in case["input_series"]:
        series["values"] += f" {ending}"
    return case


def _sparse(objective: Objective) -> dict[str, Any]:
    """One bad event of the ten of an hour pages nobody."""
    minutes = 600
    bad = [float(minute == 420) for minute in range(minutes)]
    good = [float(minute % 6 == 0) - one for minute, one in enumerate(bad)]
    return _case(objective, "one bad event of few", good, bad, _quiet(objective, 400, minutes))


def _case(objective: Objective, name: str, good: Values, bad: Values, expected: list[dict[str, Any]]) -> dict[str, Any]:
    series = _series(objective, good, bad) or {}
    inputs = [{"series": name, "values": _ramp(values)} for name, values in series.items()]
    return {"name": f"{objective.name}: {name}", "interval": "1m", "input_series": inputs, "promql_expr_test": expected}


def _firing(objective: Objective, alert: str, minute: int, fires: bool, window: Window | None) -> dict[str, Any]:  # noqa: FBT001
    """Whether an alert fires in a minute."""
    wanted = {"alertname": alert, "alertstate": "firing"} | ({"window": duration(window.long_s)} if window else {})
    expression = f"count(ALERTS{_braces(objective, **wanted)})"
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}


def _braces(objective: Objective, **more: str) -> str:
    labels = {"slo": objective.name, "service": objective.service} | more
    return "{" + ", ".join(f"{name}={quoted(value)}" for name, value in labels.items()) + "}"


def _ramp(increments: Values) -> str:
    """A counter in promtool's notation: `a+bxn` is a, then n more, each b above the one before.

    Args:
        increments: before each sample but the first.
    """
    values = list(accumulate(increments, initial=0.0))
    parts, start = [], 0
    while start < len(increments):
        end = start
        while end + 1 < len(increments) and increments[end + 1] == increments[start]:
            end += 1
        # The first value of a part is the last of the part before, plus one step.
        first = values[start] if start == 0 else values[start + 1]
        parts.append(f"{first:.17g}+{increments[start]:.17g}x{end - start + (start == 0)}")
        start = end + 1
    return " ".join(parts)


def _series(objective: Objective, good: Values, bad: Values) -> dict[str, Values] | None:
    """Series that the objective counts so, or None when none can be made up."""
    total = next(term for term in objective.total.terms if term.sign > 0)
    goods = [term for term in objective.bad.terms if term.sign < 0]
    chosen = (goods or objective.bad.terms)[0]
    inside, outside = (good, bad) if goods else (bad, good)
    all_of_it = _example(_matchers(total))
    part = _example(_matchers(chosen), all_of_it if _metric(total) == _metric(chosen) else None)
    if all_of_it is None or part is None:
        return None
    if not _matches(_matchers(total), part):
        return {_text(part): inside, _text(all_of_it): [one + other for one, other in zip(good, bad, strict=True)]}
    # One metric holds both, and what the part leaves out must be a series of its own.
    beside = (labels for labels in _beside(all_of_it, _matchers(chosen)) if not _matches(_matchers(chosen), labels))
    rest = next((labels for labels in beside if _matches(_matchers(total), labels)), None)
    return None if rest is None else {_text(part): inside, _text(rest): outside}


def _matchers(term: Term) -> list[Matcher]:
    tree = promql_parser.parse(term.selector)
    assert isinstance(tree, VectorSelector)  # noqa: S101 - a term is one
    named = [] if tree.name is None else [Matcher(MatchOp.Equal, "__name__", tree.name)]
    return named + tree.matchers.matchers


def _metric(term: Term) -> str:
    return next((matcher.value for matcher in _matchers(term) if matcher.name == "__name__"), "")


def _beside(labels: Labels, matchers: list[Matcher]) -> list[Labels]:
    """Labels that may break one of the matchers."""
    return [labels, *(labels | {matcher.name: value} for matcher in matchers for value in _candidates(matcher.value))]


def _example(matchers: list[Matcher], labels: Labels | None = None) -> Labels | None:
    """Labels that all matchers take, on top of those given."""
    found = dict(labels or {})
    for matcher in matchers:
        if matcher.op == MatchOp.Equal:
            found[matcher.name] = matcher.value
        elif not _matches([matcher], found):
            fitting = (value for value in _candidates(matcher.value) if _matches([matcher], {matcher.name: value}))
            found[matcher.name] = next(fitting, "")
    found = {name: value for name, value in found.items() if value}
    return found if "__name__" in found and _matches(matchers, found) else None


def _candidates(pattern: str) -> list[str]:
    """Values that may match a pattern or not: its alternatives with simple characters for simple classes, and others."""
    plain = re.sub(r"\([^()]*\)\?", "", pattern).replace(".*", "").replace(".+", "x")
    plain = re.sub(r"[()^$]", "", re.sub(r"\[[^]]*\]\+?|\\d\+?|(?<!\\)\.", "0", plain))
    return [*(one.replace("\\", "") for one in plain.split("|")), "200", "404", "500", "x", "0"]


def _matches(matchers: list[Matcher], labels: Labels) -> bool:
    for matcher in matchers:
        value = labels.get(matcher.name, "")
        regular = matcher.op in (MatchOp.Re, MatchOp.NotRe)
        found = re.fullmatch(matcher.value, value) is not None if regular else value == matcher.value
        if found == (matcher.op in (MatchOp.NotEqual, MatchOp.NotRe)):
            return False
    return True


def _text(labels: Labels) -> str:
    rest = ", ".join(f"{name}={quoted(value)}" for name, value in sorted(labels.items()) if name != "__name__")
    return f"{labels['__name__']}{{{rest}}}"
