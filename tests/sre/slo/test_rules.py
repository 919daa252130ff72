from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import promql_parser
import pytest
import yaml

from sre.judges.budget import EVIDENCE, evident
from sre.slo import rules
from sre.slo.objective import Alerting, Objective
from sre.slo.spec import load, parse
from sre.slo.windows import Severity
from sre.targets.local.programs import find
from tests.sre.slo.examples import LATENCY, OURS, SLICES, SLOTH, THRESHOLD

EVERY = (*load(OURS), *(one for text in (LATENCY, SLICES, THRESHOLD, SLOTH) for one in parse(text, "slo.yaml")))


def named(name: str) -> Objective:
    return next(one for one in EVERY if one.name == name)


def listed(*objectives: Objective) -> list[dict[str, Any]]:
    return [rule for group in rules.rules(objectives, "https://runbooks")["groups"] for rule in group["rules"]]


def alerts(objective: Objective, name: str = rules.BURN) -> list[dict[str, Any]]:
    return [rule for rule in listed(objective) if rule.get("alert") == name]


def test_promtool_takes_every_rule(programs: Path, tmp_path: Path) -> None:
    found = find("promtool", programs)
    (tmp_path / "rules.yml").write_text(rules.text(rules.rules(EVERY, "https://runbooks")), encoding="utf-8")
    command = [str(found.path), "check", "rules", "--lint=all", "--lint-fatal", "rules.yml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=dict(found.environment), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(listed(*EVERY))} rules found" in done.stdout


def test_every_query_parses_as_it_stands_in_the_file() -> None:
    written = yaml.safe_load(rules.text(rules.rules(EVERY, "https://runbooks")))
    assert written == rules.rules(EVERY, "https://runbooks")
    for group in written["groups"]:
        for rule in group["rules"]:
            promql_parser.parse(rule["expr"])


def test_each_window_is_one_alert_with_a_runbook() -> None:
    found = alerts(named("availability"))
    assert [(rule["labels"]["window"], rule["labels"]["severity"]) for rule in found] == [
        ("1h", "page"), ("6h", "page"), ("1d", "ticket"), ("3d", "ticket"),
    ]  # fmt: skip
    assert {rule["annotations"]["runbook_url"] for rule in found} == {"https://runbooks/error-budget-burn.md"}
    assert all(rule["labels"]["slo"] == "availability" and rule["labels"]["service"] == "ml-api" for rule in found)
    assert "> 14.4" in found[0]["expr"]


def test_labels_of_a_file_are_made_labels_of_prometheus_and_never_hide_which_alert_it_is() -> None:
    assert alerts(named("order-latency"))[0]["labels"]["team_name"] == "shop"
    renamed = replace(named("order-latency"), alerting=Alerting(labels={"slo": "another"}))
    assert alerts(renamed)[0]["labels"]["slo"] == "order-latency"


def test_labels_of_a_severity_come_from_sloth_and_disabled_alerts_are_not_there() -> None:
    found = alerts(named("delivery"))
    assert [rule["labels"]["severity"] for rule in found] == ["critical", "critical"]
    assert found[0]["labels"] | {"owner": "post", "sloth_alert": "LettersLost"} == found[0]["labels"]
    assert found[0]["annotations"]["team"] == "post"


def test_a_policy_waits() -> None:
    (rule,) = alerts(named("replication-lag"))
    assert rule["for"] == "10m"


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("availability", 51), ("latency-p95", 300), ("latency-p99", 300), ("order-latency", 241), ("checkout", 300)],
)
def test_a_missing_metric_alerts_no_later_than_a_total_outage(name: str, seconds: int) -> None:
    objective = named(name)
    assert rules.unknown_after_s(objective) == seconds
    outages = [window.detected_s(objective.allowed, 1.0) for window in objective.windows if window.severity is Severity.PAGE]
    assert all(outage is None or seconds <= outage for outage in outages)
    (rule,) = alerts(objective, rules.UNKNOWN)
    assert "absent(" in rule["expr"]


def test_without_windows_the_indicator_is_still_recorded_and_watched() -> None:
    objective = replace(named("availability"), windows=())
    assert rules.base_s(objective) == 300
    assert {rule.get("record") for rule in listed(objective)} >= {"slo:bad:increase5m", "slo:budget:left"}
    assert alerts(objective, rules.UNKNOWN)[0]["labels"]["severity"] == "ticket"


def test_only_independent_events_have_evidence() -> None:
    assert "ln(" in rules.burning(named("availability"), named("availability").windows[0])
    assert "ln(" not in rules.burning(named("checkout"), named("checkout").windows[0])
    assert "ln(" not in rules.burning(named("replication-lag"), named("replication-lag").windows[0])


@pytest.mark.parametrize(
    ("bad", "total"), [(1.0, 10.0), (2.0, 10.0), (3.0, 60.0), (2.0, 60.0), (900.0, 60_000.0), (960.0, 60_000.0)]
)
def test_the_rule_and_the_judge_weigh_evidence_alike(bad: float, total: float) -> None:
    expected = total * 0.0144
    rule = bad * np.log(bad / expected) - bad + expected > EVIDENCE
    assert rule == evident(np.array([bad]), np.array([total]), 0.0144)[0]


def test_the_period_is_added_up_from_counts() -> None:
    left = next(rule for rule in listed(named("availability")) if rule.get("record") == "slo:budget:left")
    assert left["expr"].count("sum_over_time") == 2
    assert "[30d]" in left["expr"]
    sliced = next(rule for rule in listed(named("checkout")) if rule.get("record") == "slo:budget:left")
    assert "count_over_time(slo:slice:bad" in sliced["expr"]


def test_the_same_objectives_give_the_same_text() -> None:
    assert rules.text(rules.rules(load(OURS), "r")) == rules.text(rules.rules(load(OURS), "r"))
