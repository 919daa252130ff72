from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sre.judges.canary.arms import Arms, Below, held_back
from sre.judges.canary.rules import Kind, MetricRule, Model
from sre.measure.shares import log_e_below, log_e_proportion_below


def arms(model: Model = Model.INDEPENDENT, tests: int = 1, **fields: Any) -> Arms:
    made = Arms(MetricRule(name="errors", kind=Kind.RATIO, model=model, **fields), tests=tests)
    made.begin(0.5)
    return made


def singles(random: np.random.Generator, rate: float) -> npt.NDArray[np.float64]:
    return random.poisson(rate, 1).astype(np.float64)


def bursts(random: np.random.Generator, rate: float, size: float) -> npt.NDArray[np.float64]:
    return np.array([float(random.geometric(1.0 / size, random.poisson(rate)).sum())])


def test_evidence_of_being_fine_is_the_product_over_stages_whose_shares_differ() -> None:
    made = arms()
    made.update(np.array([20.0]), np.array([22.0]))
    made.begin(0.2)
    made.update(np.array([5.0]), np.array([19.0]))
    expected = log_e_below(20.0, 22.0, share=0.5, margin=1.0) + log_e_below(5.0, 19.0, share=0.2, margin=1.0)
    assert made.log_e_fine[0] == pytest.approx(float(expected))
    assert made.n.tolist() == [66.0]


def test_tests_stand_side_by_side() -> None:
    both, one = arms(tests=2), arms()
    both.update(np.array([9.0, 30.0]), np.array([9.0, 3.0]))
    one.update(np.array([9.0]), np.array([9.0]))
    assert both.log_e_fine[0] == pytest.approx(one.log_e_fine[0])
    assert both.log_e[0] == pytest.approx(one.log_e[0])
    assert both.log_e[1] > 1.0 > both.log_e[0]


@pytest.mark.parametrize("model", Model)
def test_long_healthy_time_does_not_blunt_what_comes_later(model: Model) -> None:
    # 1,000 healthy looks, then ten times the errors: found as soon as in a canary that began so, but for a few looks.
    def looks(healthy: int) -> int:
        random, made = np.random.default_rng(4), arms(model)
        for _ in range(healthy):
            made.update(singles(random, 1.0), singles(random, 1.0))
        for look in range(200):
            made.update(singles(random, 10.0), singles(random, 1.0))
            if made.log_e[0] > math.log(20.0):
                return look + 1
        return 200

    assert looks(1000) <= looks(0) + 15


def test_bursts_contradict_events_that_were_to_come_one_by_one() -> None:
    random, made = np.random.default_rng(6), arms()
    for _ in range(300):
        made.update(bursts(random, 0.4, 5.0), bursts(random, 0.4, 5.0))
    doubt = made.doubt()
    assert doubt is not None
    assert doubt.startswith("errors: events come in bursts")
    assert doubt.endswith("set `model: bursty`")
    index = made.dispersion(0)
    assert index is not None
    assert 4.0 < index < 14.0  # geometric bursts of mean 5: about 9


def test_single_events_contradict_nothing_though_the_canary_has_many_more() -> None:
    random, made = np.random.default_rng(8), arms()
    for look in range(300):
        made.update(singles(random, 2.0 if look < 150 else 20.0), singles(random, 2.0))
    assert made.doubt() is None


def test_bursty_arms_have_no_such_doubt_and_count_a_burst_as_one() -> None:
    random, made = np.random.default_rng(6), arms(Model.BURSTY)
    assert made.burst[0] == 5.0  # nothing was seen yet
    assert made.dispersion(0) is None
    for _ in range(300):
        made.update(bursts(random, 0.4, 5.0), bursts(random, 0.4, 5.0))
    assert made.doubt() is None
    assert 5.0 < made.burst[0] < 20.0
    assert made.burst[0] == made.dispersion(0)


def test_progress_is_told_in_events() -> None:
    made = arms(margin=0.5)
    made.update(np.array([30.0]), np.array([40.0]))
    assert made.progress(0, 0.05) == "70 of about 210 events that show a margin of 1.5x"


def test_below_is_evidence_about_the_canary_alone_with_bursts_as_single_events() -> None:
    below = Below(0.01)
    below.begin()
    below.update(4, 4000, 1.0)
    assert below.log_e_fine == pytest.approx(float(log_e_proportion_below(4, 4000, at_most=0.01)))
    below.update(4, 4000, 4.0)
    assert below.log_e_fine == pytest.approx(float(log_e_proportion_below(2, 2000, at_most=0.01)))
    before = below.log_e_fine
    below.begin()
    assert below.log_e_fine == pytest.approx(before)
    below.update(9, 100, 1.0)
    assert below.log_e_fine < 0.0


@pytest.mark.parametrize(("carried", "own", "held"), [(3.0, 1.0, 4.0), (3.0, 0.0, 3.0), (3.0, -1.0, -1.0), (-3.0, -1.0, -4.0)])
def test_a_stage_that_speaks_against_the_canary_is_not_outvoted(carried: float, own: float, held: float) -> None:
    assert held_back(carried, own) == held
