"""The generated rules under the generated tests, by the real promtool: each alert fires in its minute, and not before."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sre.slo import rules, unit_tests
from sre.slo.objective import Objective
from sre.slo.promql import Count, Term
from sre.slo.spec import load, parse
from sre.slo.windows import Window
from sre.targets.local.programs import find
from tests.sre.slo.examples import LATENCY, OURS, SLICES, SLOTH, THRESHOLD

RATIO_SLICES = SLICES.replace("Timeslices", "RatioTimeslices").replace("checkout", "checkout-by-ratio")
EVERY = (
    *load(OURS),
    *(
        objective
        for text in (LATENCY, SLICES, RATIO_SLICES, SLOTH)
        for objective in parse(text, "slo.yaml")
        if objective.total.terms
    ),
)

# Windows of days take promtool long. One objective of each kind of counting has them tried; all have those of hours.
OVER_DAYS = {"availability", "latency-p99", "checkout", "checkout-by-ratio"}


def run(objective: Objective, programs: Path, folder: Path, step: str) -> subprocess.CompletedProcess[str]:
    found = find("promtool", programs)
    (folder / "rules.yml").write_text(rules.text(rules.rules((objective,), "runbooks")), encoding="utf-8")
    (folder / "test.yml").write_text(rules.text(unit_tests.tests(objective, "rules.yml")[step]), encoding="utf-8")
    command = [str(found.path), "test", "rules", "test.yml"]
    return subprocess.run(
        command, cwd=folder, env=dict(found.environment), capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.parametrize(
    ("objective", "step"),
    [
        pytest.param(objective, step, id=f"{objective.name}-{step}")
        for objective in EVERY
        for step in unit_tests.tests(objective, "rules.yml")
        if step == "1m" or objective.name in OVER_DAYS
    ],
)
def test_every_alert_fires_in_time_and_only_then(objective: Objective, step: str, programs: Path, tmp_path: Path) -> None:
    done = run(objective, programs, tmp_path, step)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_rules_with_another_factor_fail_their_tests(factor: float, programs: Path, tmp_path: Path) -> None:
    (objective,) = (one for one in load(OURS) if one.name == "availability")
    page = objective.windows[0]
    tests = unit_tests.tests(replace(objective, windows=(page,)), "rules.yml")["1m"]
    off = replace(objective, windows=(replace(page, factor=page.factor * factor),))
    found = find("promtool", programs)
    (tmp_path / "rules.yml").write_text(rules.text(rules.rules((off,), "runbooks")), encoding="utf-8")
    (tmp_path / "test.yml").write_text(rules.text(tests), encoding="utf-8")
    command = [str(found.path), "test", "rules", "test.yml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=dict(found.environment), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode != 0
    assert "ErrorBudgetBurn" in done.stdout + done.stderr


@pytest.mark.parametrize(("share", "minutes"), [(1.0, 1), (0.1, 9), (0.05, 18)])
def test_the_minute_of_a_page_is_that_of_the_formula(share: float, minutes: int) -> None:
    (objective,) = (one for one in load(OURS) if one.name == "availability")
    assert unit_tests.fires_after(objective, objective.windows[0], share) == minutes


def test_waiting_delays_the_alert() -> None:
    (objective,) = (one for one in load(OURS) if one.name == "availability")
    waiting = replace(objective.windows[0], for_s=120.0)
    assert unit_tests.fires_after(objective, waiting, 0.1) == 11


def test_a_window_that_no_outage_reaches_has_no_minute() -> None:
    (objective,) = parse(SLICES, "slo.yaml")
    window: Window = replace(objective.windows[0], factor=200.0)
    with pytest.raises(ValueError, match="never fires"):
        unit_tests.fires_after(objective, window, 1.0)


def test_no_input_is_made_up_for_what_only_prometheus_can_count() -> None:
    (sampled,) = parse(THRESHOLD, "slo.yaml")
    assert unit_tests.tests(sampled, "rules.yml") == {}
    odd = Count("sum(increase(x[5m]))", (Term(1, 'x{a=~"[^a-z]{7}(?:)"}'),))
    assert unit_tests.tests(replace(sampled, bad=odd, total=odd), "rules.yml") == {}
