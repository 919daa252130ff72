"""All files that follow from objectives: rules, their unit tests, and a dashboard."""

from __future__ import annotations

import json

from sre.slo import dashboard, rules, unit_tests
from sre.slo.objective import Objective

DASHBOARD = "dashboard.json"


def generate(objectives: tuple[Objective, ...], runbooks: str = "runbooks") -> dict[str, str]:
    """Generate every file, the same for the same objectives.

    Args:
        objectives: of one file or of several.
        runbooks: where the runbooks stand, an address without a slash at its end.

    Returns:
        Texts by file name. `<service>-<objective>.rules.yml` for Prometheus; `<service>-<objective>.<step>.test.yml` for
        `promtool test rules`, where input can be made up for the objective; and the dashboard.
    """
    files: dict[str, str] = {}
    for objective in objectives:
        stem = f"{objective.service}-{objective.name}"
        rule_file = f"{stem}.rules.yml"
        files[rule_file] = rules.text(rules.rules((objective,), runbooks))
        for step, document in unit_tests.tests(objective, rule_file).items():
            files[f"{stem}.{step}.test.yml"] = rules.text(document)
    services = ", ".join(dict.fromkeys(objective.service for objective in objectives))
    files[DASHBOARD] = json.dumps(dashboard.dashboard(objectives, f"Objectives of {services}"), indent=2) + "\n"
    return files
