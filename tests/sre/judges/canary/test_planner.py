from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sre.errors import UsageError
from sre.judges.canary.decision import Standing
from sre.judges.canary.observation import Classes, Events, Histogram, Observation
from sre.judges.canary.planner import Traffic, foresee, unforeseen
from sre.judges.canary.rules import Rules, StageRule

MakeRules = Callable[..., Rules]
Play = Callable[..., list[Standing]]
STAGE = StageRule(weight=0.1, share=0.5, at_least_s=10.0, at_most_s=3600.0)


def traffic(requests_per_s: float = 1000.0, dispersion: Any = None, **observations: Observation) -> Traffic:
    return Traffic(requests_per_s=requests_per_s, requests=600_000, observations=observations, dispersion=dispersion or {})


def events(share: float) -> Events:
    return Events(0, 0, round(share * 1e6), 1_000_000)


def test_the_median_is_that_of_simulated_rollouts(make_rules: MakeRules, play: Play) -> None:
    # 1600 requests each 2 s of both arms are 4000/s of all traffic at a weight of 10 %.
    rules = make_rules("errors", of_metrics={"objective": None})
    foreseen = foresee(rules, traffic(4000.0, errors=events(0.002)))[0]
    times = [play(rules, seed=seed, looks=80, per_look=1600)[-1].stage_s for seed in range(30)]
    assert np.median(times) == pytest.approx(foreseen.median_s, rel=0.35)
    assert np.mean(np.array(times) <= foreseen.ninety_s) >= 0.8
    assert foreseen.decides == "errors"


def test_what_the_least_duration_covers_needs_no_longer(make_rules: MakeRules) -> None:
    rules = make_rules("errors", stages=[replace(STAGE, at_least_s=1800.0)])
    foreseen = foresee(rules, traffic(errors=events(0.001)))[0]
    assert (foreseen.median_s, foreseen.ninety_s, foreseen.decides) == (1800.0, 1800.0, None)
    assert foreseen.why == "the stage lasts at least 1800 s"


def test_evidence_carried_makes_the_second_stage_short(make_rules: MakeRules) -> None:
    stages = [STAGE, replace(STAGE, weight=0.5, at_least_s=30.0)]
    first, second = foresee(make_rules("errors", stages=stages), traffic(errors=events(0.001)))
    assert first.median_s > 100.0
    assert second.median_s == 30.0


def test_half_the_traffic_takes_twice_as_long(make_rules: MakeRules) -> None:
    rules = make_rules("errors", of_metrics={"objective": None})
    fast, slow = (foresee(rules, traffic(rate, errors=events(0.001)))[0].median_s for rate in (1000.0, 500.0))
    assert slow == pytest.approx(2.0 * fast, rel=0.02)


def test_bursts_take_as_much_longer_as_they_are_large(make_rules: MakeRules) -> None:
    rules = make_rules("errors", of_metrics={"objective": None})
    single, bursts = (
        foresee(rules, traffic(errors=events(0.001), dispersion={"errors": burst}))[0].median_s for burst in (1.0, 5.0)
    )
    assert bursts == pytest.approx(5.0 * single, rel=0.02)


def test_a_stage_without_enough_events_is_refused_with_the_numbers(make_rules: MakeRules) -> None:
    # 20/s of both arms at 0.001 %: 0.72 events in an hour.
    rules = make_rules("errors", of_metrics={"objective": None})
    with pytest.raises(UsageError) as refused:
        foresee(rules, traffic(100.0, errors=events(0.00001)))
    assert "errors: a margin of 2x takes about 66 events of both arms, but 0.001% of requests are bad" in str(refused.value)
    assert "1 are expected within 3600 s at weight 10%" in str(refused.value)


def test_what_is_negligible_makes_the_same_plan_possible(make_rules: MakeRules) -> None:
    rules = make_rules("errors", of_metrics={"objective": None, "negligible": 0.001})
    assert foresee(rules, traffic(100.0, errors=events(0.00001)))[0].median_s < 1200.0


def test_an_objective_that_production_does_not_keep_is_refused(make_rules: MakeRules) -> None:
    with pytest.raises(UsageError, match=r"errors: an objective of 1.000% with 1.200% bad today takes forever at weight 10%"):
        foresee(make_rules("errors"), traffic(errors=events(0.012)))


def test_every_refusal_is_told_at_once(make_rules: MakeRules) -> None:
    with pytest.raises(UsageError) as refused:
        foresee(make_rules("errors"), traffic(1.0, errors=events(0.012)))
    assert "a margin of 2x" in str(refused.value)
    assert "an objective of 1.000%" in str(refused.value)


@pytest.mark.parametrize("silent", [replace(traffic(), requests_per_s=0.0), replace(traffic(), requests=0), traffic(math.nan)])
def test_no_traffic_is_refused(make_rules: MakeRules, silent: Traffic) -> None:
    with pytest.raises(UsageError, match="no traffic lately"):
        foresee(make_rules("errors"), silent)


def test_rules_that_contradict_themselves_are_refused(make_rules: MakeRules) -> None:
    with pytest.raises(UsageError, match="two rates are equal"):
        foresee(make_rules("errors", of_metrics={"margin": 0.0}), traffic(errors=events(0.001)))


def test_a_histogram_waits_for_its_rarest_gating_edge_and_its_objective(make_rules: MakeRules) -> None:
    # 20 % are above 0.05, 6 % above 0.1 and 1 % above 0.5; the last is too rare to gate at a margin, but has an objective.
    counts = (0, 0, 0, 800, 140, 40, 10, 10, 0, 0, 0, 0)
    seen = Histogram((0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0), (0,) * 12, counts)
    foreseen = foresee(make_rules("latency"), traffic(10.0, latency=seen))[0]
    assert foreseen.why == "latency: 6.0% are beyond 0.1"


def test_classes_wait_for_the_rarest_that_gates(make_rules: MakeRules) -> None:
    seen = Classes(tuple("0123456789"), (0,) * 10, (1000, 100, 60, 10, 10, *[1000] * 5))
    foreseen = foresee(make_rules("classes"), traffic(10.0, classes=seen))[0]
    assert foreseen.why.startswith("classes: class 0 is ")


def test_what_nothing_is_known_of_is_named(make_rules: MakeRules) -> None:
    rules = make_rules("errors", "latency", "load", "crashes")
    empty = Histogram((0.5,), (0, 0), (0, 0))
    assert unforeseen(rules, traffic(errors=events(0.001), latency=empty)) == ("latency", "load")
