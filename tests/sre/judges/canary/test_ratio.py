from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sre.judges.canary.observation import Crashes, Events
from sre.judges.canary.ratio import Ratio
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, StageRule

AT = math.log(20.0)
STAGE = StageRule(weight=0.1, share=0.5, at_least_s=0.0, at_most_s=1.0)


def ratio(**fields: Any) -> Ratio:
    made = Ratio(MetricRule(name="errors", kind=Kind.RATIO, **({"model": Model.INDEPENDENT} | fields)), beta=0.05)
    made.begin(STAGE)
    return made


def fine(metric: Ratio) -> float:
    log_e = metric.judged().standing.log_e_fine
    assert log_e is not None
    return log_e


def test_what_was_seen_is_told_with_its_numbers() -> None:
    metric = ratio()
    metric.observe(Events(3, 1000, 2, 1100))
    standing = metric.judged().standing
    assert (standing.canary, standing.control, standing.n, standing.unit) == (0.003, 2 / 1100, 5, "share of requests")
    assert standing.why == ("errors: 3 of 1,000 requests of the canary were bad (0.300%), 2 of 1,100 of the control (0.182%)")
    assert metric.judged().needs.endswith("; 5 of about 66 events that show a margin of 2x")


def test_the_numbers_begin_anew_with_a_stage_and_the_evidence_does_not() -> None:
    metric = ratio()
    metric.observe(Events(40, 1000, 40, 1000))
    before = fine(metric)
    metric.begin(STAGE)
    standing = metric.judged().standing
    assert (standing.canary, standing.control, standing.n) == (None, None, 80)
    assert fine(metric) == pytest.approx(before)


def test_an_objective_must_be_shown_whatever_the_control_does() -> None:
    # Both arms at 1 %: within the margin, but not below 1 % by itself; 0.9 % would take longer.
    alone, judged = ratio(), ratio(objective=Objective(0.01))
    for metric in (alone, judged):
        metric.observe(Events(200, 20_000, 200, 20_000))
    assert fine(alone) >= AT > fine(judged)
    assert judged.judged().needs.endswith("; not yet shown to be below the objective of 0.01")
    judged.observe(Events(0, 40_000, 200, 20_000))
    assert fine(judged) >= AT


def test_nothing_bad_in_either_arm_shows_nothing_unless_little_is_negligible() -> None:
    silent, tolerant = ratio(), ratio(negligible=0.001)
    for metric in (silent, tolerant):
        metric.observe(Events(0, 20_000, 0, 20_000))
    assert fine(silent) == 0.0
    assert "0 of about 66 events" in silent.judged().needs
    assert fine(tolerant) >= AT
    assert tolerant.judged().needs == ""


def test_more_than_is_negligible_must_be_within_the_margin() -> None:
    metric = ratio(negligible=0.001)
    metric.observe(Events(60, 20_000, 10, 20_000))
    assert fine(metric) < 0.0


def test_bursts_weaken_the_evidence_for_an_objective() -> None:
    single, bursty = ratio(objective=Objective(0.01)), ratio(objective=Objective(0.01), model=Model.BURSTY)
    random = np.random.default_rng(5)
    for _ in range(100):
        canary, control = (int(n) for n in random.geometric(0.2, 2) * random.binomial(1, 0.05, 2))
        seen = Events(canary, 200, control, 200)
        single.observe(seen)
        bursty.observe(seen)
    assert fine(bursty) > 0.0
    own = [metric._objective.log_e_fine for metric in (single, bursty) if metric._objective is not None]
    assert own[1] < 0.5 * own[0]


def test_few_bad_requests_of_unknown_bursts_count_as_bursts() -> None:
    single, bursty = ratio(negligible=0.001), ratio(negligible=0.001, model=Model.BURSTY)
    for metric in (single, bursty):
        metric.observe(Events(0, 6000, 0, 6000))
    assert fine(single) > 2.0 * fine(bursty)


def test_what_does_not_gate_has_no_evidence_for_a_promotion() -> None:
    assert ratio(gates=False).judged().standing.log_e_fine is None


@pytest.mark.parametrize(
    "seen", [Events(2, 1, 0, 1), Events(0, 1, 2, 1), Events(-1, 1, 0, 1), Events(0, 1, -1, 1), Crashes(0, 0)]
)
def test_what_cannot_be_is_not_counted(seen: Any) -> None:
    metric = ratio()
    problem = metric.observe(seen)
    assert problem is not None
    assert "cannot be bad" in problem or "Crashes was read where events among requests are expected" in problem
    assert metric.judged().standing.n == 0
