from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.canary import plan as plans
from sre.canary.burn import PRODUCTION, Aftermath, Burned, Limit, limits
from sre.judges.canary.decision import Action
from sre.judges.canary.observation import Events, Histogram, Interval
from sre.judges.canary.rules import Kind, MetricRule, Objective, Rules, Worse
from tests.sre.canary.rolling import Stage, staged
from tests.sre.canary.test_view import metric, standing

RATIO = MetricRule(name="errors", kind=Kind.RATIO, margin=1.0, objective=Objective(at_most=0.001))
SLOW = MetricRule(name="latency", kind=Kind.HISTOGRAM, margin=0.5, objective=Objective(at_most=0.05, edge=0.5))
PLAIN = MetricRule(name="shape", kind=Kind.HISTOGRAM)


def interval(control: int, of: int, histogram: Histogram | None = None) -> Interval:
    observations: dict[str, Events | Histogram] = {"errors": Events(canary=0, canary_of=of, control=control, control_of=of)}
    if histogram is not None:
        observations |= {"latency": histogram, "shape": histogram}
    return Interval(0.0, 2.0, 0, of, of, observations)


def rules(*metrics: MetricRule) -> Rules:
    return Rules(alpha=0.01, beta=0.05, sample_ratio_alpha=0.001, metrics=metrics, stages=())


def test_the_objective_allows_what_production_never_did() -> None:
    (limit,) = limits(rules(RATIO), [interval(0, 100_000)] * 2, standing())
    assert limit == Limit("errors", 0.001, None, Worse.HIGHER, 1.0)


def test_what_production_did_before_is_allowed_with_the_margin() -> None:
    (limit,) = limits(rules(RATIO), [interval(50, 1000)] * 2, standing(metrics=(metric(dispersion=4.0),)))
    assert 2 * 0.05 < limit.share < 2 * 0.065
    assert limit.burst == 4.0


def test_a_histogram_is_held_to_its_edge() -> None:
    seen = Histogram(edges=(0.1, 0.5, 1.0), canary=(0, 0, 0, 0), control=(800, 100, 60, 40))
    metrics = (metric(name="latency"), metric(name="shape"))
    (limit,) = limits(rules(SLOW, PLAIN), [interval(0, 1000, seen)], standing(metrics=metrics))
    assert (limit.name, limit.edge) == ("latency", 0.5)
    assert 0.15 < limit.share < 0.18


def test_without_requests_there_is_no_limit() -> None:
    assert limits(rules(RATIO), [Interval(0.0, 2.0, 0, 0, 0, {})], standing()) == ()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as made:
        yield made


def watched(stage: Stage, failing: float, held_to: tuple[Limit, ...], looks: int = 120) -> list[Burned]:
    """All looks at production until one decides."""
    stage.prometheus.service.failing["stable"] = failing
    plan = plans.load(stage.plan_file)
    clock = stage.target.clock
    clock.sleep(10.0)
    source = stage.source(plan, (PRODUCTION,))
    source.look(clock.wall() - 10.0, 2)  # the first scrapes
    after = Aftermath(plan, held_to, clock.wall())
    found: list[Burned] = []
    while len(found) < looks and (not found or found[-1].action is Action.HOLD):
        clock.sleep(2.0)
        found.append(after.look(source.look(after.since, 2)))
    return found


HELD_TO = (Limit("errors", 0.1, None, Worse.HIGHER, 1.0),)


def test_a_healthy_version_outlasts_the_watch(stage: Stage) -> None:
    found = watched(stage, 0.05, HELD_TO)
    assert [burned.action for burned in found] == [Action.HOLD] * 9 + [Action.PROMOTE]
    assert found[-1].burns["errors"] == pytest.approx(0.5, abs=0.03)
    assert found[-1].log_e < 0


def test_a_version_that_burns_is_found_soon(stage: Stage) -> None:
    found = watched(stage, 0.2, HELD_TO)
    assert found[-1].action is Action.ROLLBACK
    assert len(found) <= 2
    assert "burns more than production did before" in found[-1].why


def test_bursts_need_more(stage: Stage) -> None:
    bursty = (Limit("errors", 0.1, None, Worse.HIGHER, 200.0),)
    assert len(watched(stage, 0.2, bursty)) > 2


def test_no_data_holds_and_then_demotes(stage: Stage) -> None:
    stage.prometheus.service.away = 503
    found = watched(stage, 0.05, HELD_TO)
    assert [burned.action for burned in found] == [Action.HOLD] * 9 + [Action.ROLLBACK]
    assert "no data for 20 s" in found[-1].why


def test_nothing_to_judge_by_is_never_a_pass(stage: Stage) -> None:
    stage.edit("weight: 100%, at_least: 20s, at_most: 3m", "weight: 100%, at_least: 20s, at_most: 30s")
    assert watched(stage, 0.05, ())[-1].action is Action.ROLLBACK
    stage.prometheus.service.rate = 0.0
    found = watched(stage, 0.05, HELD_TO)
    assert found[-1].action is Action.ROLLBACK
    assert "nothing to judge by" in found[-1].why
