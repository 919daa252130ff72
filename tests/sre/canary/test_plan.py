from __future__ import annotations

from pathlib import Path

import pytest

from sre.canary import plan as plans
from sre.canary.plan import REQUESTS
from sre.errors import UsageError
from sre.judges.canary.gate import Gate
from sre.judges.canary.rules import Kind, Model, Objective, StageRule, Worse
from tests.sre.canary.histories import PLAN, make_plan


def test_the_shipped_plan_gives_rules_that_can_be_judged_by() -> None:
    plan = plans.load()
    rules = plan.rules()
    Gate(rules)
    assert (rules.alpha, rules.beta, rules.sample_ratio_alpha) == (0.01, 0.05, 0.001)
    assert rules.stages == (
        StageRule(weight=0.1, share=0.5, at_least_s=600, at_most_s=3600),
        StageRule(weight=0.5, share=0.5, at_least_s=600, at_most_s=3600),
    )
    assert [stage.weight for stage in plan.stages] == [0.1, 0.5, 1.0]
    assert [stage.approval for stage in plan.stages] == [False, True, False]
    errors, latency, crashes, classes, confidence = rules.metrics
    assert (errors.kind, errors.margin, errors.objective) == (Kind.RATIO, 1.0, Objective(0.001))
    assert (latency.worse, latency.margin, latency.objective) == (Worse.HIGHER, 0.5, Objective(0.05, 0.5))
    assert (crashes.limit, crashes.gates) == (0, False)
    assert classes.labels == tuple("0123456789")
    assert confidence.worse is Worse.LOWER


def test_every_selector_is_asked_once() -> None:
    plan = make_plan()
    assert plan.up() == 'up{job="s",track="$track"}'
    assert plan.started() == 'process_start_time_seconds{job="s",track="$track"}'
    assert len(plan.raw()) == len(set(plan.raw())) == 5
    assert plan.values() == ('avg(load{job="s",track="$track"})',)
    assert plan.selectors(plan.metrics["errors"]) == (plan.raw()[2], plan.requests)


def test_a_stage_above_half_has_a_smaller_control() -> None:
    plan = make_plan(**{"weight: 50%": "weight: 80%", "margin: 1.5x": "margin: 1.5x, model: independent"})
    assert plan.rules().stages[1].share == pytest.approx(0.8)
    assert plan.stages[1].control == pytest.approx(0.2)


def test_a_margin_and_a_model_are_read() -> None:
    plan = make_plan(**{"margin: 2x, model: independent": "margin: 3.5x, proven: 1x, negligible: 0.05%, gates: false"})
    rule = plan.rules().metrics[0]
    assert (rule.margin, rule.proven, rule.negligible, rule.model, rule.gates) == (2.5, 0.0, 0.0005, Model.BURSTY, False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sre.canary/1", "sre.canary/2", "schema"),
        ("scrape: 1s", "scrape: 1", r"canary.yaml:4: scrape is 1: write a duration with its unit"),
        ("scrape: 1s", "scrape: 0s", "longer than nothing"),
        ("scrape: 1s", "scrape: 1 fortnight", "not understood"),
        ("rollback: 1%", "rollback: 0.01", r"canary.yaml:5: errors.rollback is 0.01: write per cent"),
        ("rollback: 1%", "rollback: one%", "not between 0 and 1"),
        ("rollback: 1%", "rollback: 0%", "above 0%"),
        ("rollback: 1%", "rollback: 50%", "below 50%"),
        ('requests_total{job="s",track="$track"}\n', 'sum(requests_total{job="s",track="$track"})\n', "plain selector"),
        ('requests_total{job="s",track="$track"}\n', "requests_total\n", "name the arm"),
        ("margin: 2x", "margin: 2", "write a factor"),
        ("margin: 2x", "margin: 0.5x", "between 1x and 100x"),
        ("margin: 2x", "margin: 1x", "no evidence shows that two rates are equal"),
        ("margin: 2x", "margin: 2x, proven: 3x", "beyond the margin"),
        ("margin: 2x", "margin: 2x, tolerance: 5%", "metrics.errors.ratio.tolerance"),
        ("kind: ratio", "kind: ratios", "'ratio'"),
        ("weight: 50%", "weight: 10%", "must grow in weight"),
        ("weight: 10%", "weight: 100%", "must grow in weight|begin below 100%"),
        ("weight: 50%", "weight: 80%", "model: independent"),
        ("at_least: 10s", "at_least: 2h", "at_most must be longer"),
        ("at_least: 10s", "at_least: 1s", "two scrapes or more"),
        ("rollback_after: 2m", "rollback_after: 1s", "two scrapes or more"),
        ("at_deadline: hold", "at_deadline: promote", "'hold' or 'rollback'"),
        ("approval: true", "approval: yes please", "approval"),
        ("seconds_bucket{", "seconds{", "name_bucket"),
        ('seconds_bucket{job="s"', 'seconds_bucket{job="s",le="1"', "without le"),
        ("worse: higher, margin: 1.5x}\n  crashes", "worse: up, margin: 1.5x}\n  crashes", "'higher' or 'lower'"),
        ("limit: 0", "limit: -1", "greater than or equal to 0"),
        ("labels: [cat, dog]", "labels: [cat, cat]", "each class once"),
        ("labels: [cat, dog]", "labels: [cat]", "at least 2"),
        ('classes_total{job="s"', 'classes_total{job="s",label="cat"', "take label out"),
        ("low: 0, high: 10", "low: 10, high: 10", "low must be below high"),
        ("avg(load{", "avg(rate(load{", "not PromQL"),
        ("  crashes: ", "  requests: ", "name it otherwise"),
        ("  crashes: ", "  errors: ", "set a second time"),
        ("  crashes: ", "  Crashes: ", "pattern"),
        ("name: digits", "name: ../digits", "pattern"),
        ("name: digits", "name: digits\nnmae: x", "nmae"),
    ],
)
def test_a_mistake_is_told_with_line_and_remedy(old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(UsageError, match=message) as raised:
        plans.parse(PLAN.replace(old, new, 1))
    assert str(raised.value).startswith("canary.yaml:")


@pytest.mark.parametrize(
    ("edge", "expected"), [("500ms", 0.5), ("0.7", 0.7), ("'0.7'", None), ("true", None), ("[1]", None)]
)  # fmt: skip
def test_an_objective_of_a_histogram_names_an_edge(edge: str, expected: float | None) -> None:
    objective = f"worse: higher, objective: {{at_most: 5%, edge: {edge}}},"
    if expected is None:
        with pytest.raises(UsageError, match="edge"):
            make_plan(**{"worse: higher,": objective})
        return
    text = PLAN.replace("worse: higher,", objective, 1)
    assert plans.parse(text).rules().metrics[1].objective == Objective(0.05, expected)


def test_no_metric_that_gates_is_refused() -> None:
    with pytest.raises(UsageError, match="no metric gates"):
        plans.parse(PLAN.replace("margin: 2x", "margin: 2x, gates: false").replace("margin: 1.5x", "margin: 1.5x, gates: false"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml"):
        plans.load(tmp_path / "none.yaml")
    assert REQUESTS == "requests"
