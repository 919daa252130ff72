from __future__ import annotations

import json

import yaml

from sre.config import PROJECT
from sre.slo.generate import DASHBOARD, generate
from sre.slo.spec import load, parse
from tests.sre.slo.examples import OURS, THRESHOLD


def test_each_objective_has_rules_and_tests_and_all_have_one_dashboard() -> None:
    files = generate(load(OURS))
    for name in ("availability", "errors", "latency-p95", "latency-p99"):
        assert yaml.safe_load(files[f"ml-api-{name}.rules.yml"])["groups"]
        for step in ("1m", "5m"):
            assert yaml.safe_load(files[f"ml-api-{name}.{step}.test.yml"])["rule_files"] == [f"ml-api-{name}.rules.yml"]
    assert json.loads(files[DASHBOARD])["title"] == "Objectives of ml-api"
    assert len(files) == 13


def test_the_same_objectives_give_the_same_files() -> None:
    assert generate(load(OURS)) == generate(load(OURS))


def test_an_objective_without_made_up_input_has_no_tests() -> None:
    assert set(generate(parse(THRESHOLD, "slo.yaml"))) == {"shop-replication-lag.rules.yml", DASHBOARD}


def test_alerts_point_to_the_runbooks_given() -> None:
    assert "https://here/error-budget-burn.md" in generate(load(OURS), "https://here")["ml-api-errors.rules.yml"]


def test_the_rules_that_the_system_runs_follow_from_its_objectives() -> None:
    folder = PROJECT / "system" / "monitoring" / "objectives"
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == generate(load(OURS), "[[ monitoring.runbooks ]]")
