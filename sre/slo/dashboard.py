"""A Grafana dashboard of objectives: budget left, burn rates, share of good events, and events, one row per objective."""

from __future__ import annotations

from typing import Any

from sre.slo import rules
from sre.slo.objective import Objective
from sre.slo.promql import duration, parse
from sre.slo.windows import HOUR_S

_SCHEMA = 39  # of Grafana 10 and 11; later versions migrate it
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHT, _COLUMNS = 8, 24


def dashboard(objectives: tuple[Objective, ...], title: str) -> dict[str, Any]:
    """The dashboard, as Grafana's JSON.

    Args:
        objectives: any number, each of which gets a row.
        title: of the dashboard.
    """
    panels: list[dict[str, Any]] = []
    for index, objective in enumerate(objectives):
        top = index * (_HEIGHT + 1)
        name = f"{objective.service}/{objective.name}: {objective.target * 100:.10g} % over {duration(objective.period_s)}"
        panels.append({"type": "row", "title": name, "collapsed": False, "panels": [], "gridPos": _place(0, top, _COLUMNS, 1)})
        panels += _panels(objective, top + 1)
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "hide": 0, "refresh": 1}
    return {
        "uid": "slo",
        "title": title,
        "tags": ["slo"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "1m",
        "timezone": "utc",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [source]},
        "annotations": {"list": [_alerts()]},
        "panels": panels,
    }


def _panels(objective: Objective, top: int) -> list[dict[str, Any]]:
    base_s = rules.base_s(objective)
    spans = sorted({span for window in objective.windows for span in (window.long_s, window.short_s)})
    hour_s = HOUR_S if HOUR_S in spans else base_s
    total, bad = (rules.selector(f"slo:{name}:increase{duration(hour_s)}", objective) for name in ("total", "bad"))
    factors = sorted({window.factor for window in objective.windows})
    burns = [(rules.selector(f"slo:burn:rate{duration(span)}", objective), duration(span)) for span in spans or [base_s]]
    counted = "slices" if objective.slice_s else "events"
    return [
        _panel("stat", "Budget left", [(rules.selector("slo:budget:left", objective), "left")], _place(0, top, 4),
               "percentunit", steps=[("red", None), ("orange", 0.0), ("green", 0.25)]),
        _panel("timeseries", "Burn rate: 1 spends the budget exactly in its period", burns, _place(4, top, 8), "none",
               steps=[("transparent", None), *(("red", factor) for factor in factors)]),
        _panel("timeseries", f"Good {counted}, share of {duration(hour_s)}", [(f"1 - {bad} / ({total} > 0)", "good")],
               _place(12, top, 6), "percentunit", steps=[("red", None), ("transparent", objective.target)]),
        _panel("timeseries", f"{counted.capitalize()} in {duration(hour_s)}", [(total, "all"), (bad, "bad")],
               _place(18, top, 6), "short", steps=[("green", None)]),
    ]  # fmt: skip


def _panel(  # noqa: PLR0913, PLR0917 - the fields of a panel
    kind: str, title: str, queries: list[tuple[str, str]], place: dict[str, int], unit: str, steps: list[tuple[str, float | None]]
) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": parse(query).prettify(), "legendFormat": legend, "datasource": _SOURCE}
        for index, (query, legend) in enumerate(queries)
    ]
    defaults: dict[str, Any] = {
        "unit": unit,
        "thresholds": {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in steps]},
    }
    if kind == "timeseries" and len(steps) > 1:
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    return {
        "type": kind,
        "title": title,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
    }


def _alerts() -> dict[str, Any]:
    query = parse(f'ALERTS{{alertname=~"{rules.BURN}|{rules.UNKNOWN}", alertstate="firing"}}').prettify()
    return {
        "name": "Alerts",
        "enable": True,
        "datasource": _SOURCE,
        "expr": query,
        "iconColor": "red",
        "titleFormat": "{{alertname}}",
    }


def _place(left: int, top: int, width: int, height: int = _HEIGHT) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}
