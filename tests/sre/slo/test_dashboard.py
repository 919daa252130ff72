from __future__ import annotations

from typing import Any

import promql_parser

from sre.slo import rules
from sre.slo.dashboard import dashboard
from sre.slo.spec import load, parse
from tests.sre.slo.examples import LATENCY, OURS, SLICES, THRESHOLD

EVERY = (*load(OURS), *(one for text in (LATENCY, SLICES, THRESHOLD) for one in parse(text, "slo.yaml")))


def panels(kind: str | None = None) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(EVERY, "Objectives")["panels"] if kind in {None, panel["type"]}]


def test_every_objective_has_a_row_with_budget_burn_share_and_events() -> None:
    assert [panel["title"].split(":")[0] for panel in panels("row")] == [f"{one.service}/{one.name}" for one in EVERY]
    assert len(panels()) == len(EVERY) * 5
    titles = [panel["title"] for panel in panels()[1:5]]
    assert titles[0] == "Budget left"
    assert titles[3] == "Events in 1h"


def test_every_query_parses_and_asks_for_what_the_rules_record() -> None:
    recorded = {rule["record"] for group in rules.rules(EVERY, "r")["groups"] for rule in group["rules"] if "record" in rule}
    for panel in panels():
        for target in panel.get("targets", []):
            asked: set[str] = set()

            def visit(node: promql_parser.Expr, asked: set[str] = asked) -> bool:
                if isinstance(node, promql_parser.VectorSelector):
                    asked.add(node.name or "")
                return True

            promql_parser.walk(promql_parser.parse(target["expr"]), visit)
            assert asked
            assert asked <= recorded
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells


def test_what_grafana_needs_of_a_dashboard_is_there() -> None:
    document = dashboard(EVERY, "Objectives")
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time", "annotations"} <= set(document)
    assert document["templating"]["list"][0]["type"] == "datasource"
    for panel in panels():
        assert panel["type"] == "row" or panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
