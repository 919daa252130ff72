from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sre.judges.canary.bounded import Bounded
from sre.judges.canary.observation import Crashes, Means
from sre.judges.canary.rules import Kind, MetricRule, StageRule, Worse

AT = math.log(20.0)
STAGE = StageRule(weight=0.1, share=0.5, at_least_s=0.0, at_most_s=1.0)


def bounded(**fields: Any) -> Bounded:
    rule: dict[str, Any] = {"name": "load", "kind": Kind.BOUNDED, "margin": 0.5} | fields
    made = Bounded(MetricRule(**rule), beta=0.05)
    made.begin(STAGE)
    return made


def follow(metric: Bounded, canary: float, control: float, *, looks: int = 150, seed: int = 1) -> tuple[bool, bool]:
    """Whether it was ever shown to be worse, and ever to be fine, with means about those given."""
    random, worse, fine = np.random.default_rng(seed), False, False
    for _ in range(looks):
        metric.observe(Means(*(float(random.beta(20 * mean, 20 * (1 - mean))) for mean in (canary, control))))
        standing = metric.judged().standing
        worse |= standing.log_e_worse >= AT
        fine |= (standing.log_e_fine or 0.0) >= AT
    return worse, fine


@pytest.mark.parametrize(("worse", "canary"), [(Worse.HIGHER, 0.8), (Worse.LOWER, 0.2)])
def test_a_bad_canary_is_worse_and_never_fine(worse: Worse, canary: float) -> None:
    assert follow(bounded(worse=worse), canary, 0.4) == (True, False)


@pytest.mark.parametrize("worse", Worse)
def test_one_like_its_control_is_fine_and_not_worse(worse: Worse) -> None:
    assert follow(bounded(worse=worse), 0.4, 0.4) == (False, True)


def test_error_rates_at_the_margin_hold() -> None:
    ends = [follow(bounded(), 0.6, 0.4, looks=40, seed=seed) for seed in range(80)]
    most = 0.05 * 80 + 3 * math.sqrt(0.05 * 0.95 * 80)
    assert sum(worse for worse, _ in ends) <= most
    assert sum(fine for _, fine in ends) <= most


def test_numbers_are_of_the_stage_and_evidence_is_carried() -> None:
    metric = bounded()
    follow(metric, 0.4, 0.4)
    before = metric.judged().standing
    metric.begin(STAGE)
    after = metric.judged().standing
    assert (after.canary, after.control) == (None, None)
    assert (after.n, after.why) == (150, "load: nothing was observed yet in this stage")
    assert after.log_e_fine == pytest.approx(before.log_e_fine)
    assert after.log_e_worse == pytest.approx(before.log_e_worse, abs=1.0)  # half of what was idle is staked anew
    metric.observe(Means(0.25, 0.5))
    assert (metric.judged().standing.canary, metric.judged().standing.control) == (0.25, 0.5)


@pytest.mark.parametrize("seen", [Means(1.1, 0.5), Means(0.5, -0.1), Means(math.nan, 0.5), Means(0.5, math.inf), Crashes(0, 0)])
def test_what_is_out_of_bounds_is_not_counted(seen: Any) -> None:
    metric = bounded()
    problem = metric.observe(seen)
    assert problem is not None
    assert "lies outside of its bounds" in problem or "Crashes was read where means are expected" in problem
    assert metric.judged().standing.n == 0
