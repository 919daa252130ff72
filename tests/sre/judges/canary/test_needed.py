from __future__ import annotations

import math

import numpy as np
import pytest

from sre.judges.canary.needed import events_needed, requests_needed
from sre.measure.shares import log_e_below


@pytest.mark.parametrize(("margin", "median"), [(0.5, 405), (1.0, 107), (2.0, 38)])
def test_about_two_thirds_of_all_healthy_canaries_need_no_more(margin: float, median: float) -> None:
    # The medians at a share of 10 % are those of canary-slo.md section 2.
    random, needed = np.random.default_rng(3), events_needed(margin, 0.1, 0.05)
    most = round(3 * needed)
    canary = np.cumsum(random.random((800, most)) < 0.1, axis=1)
    passed = log_e_below(canary, np.arange(1, most + 1) - canary, share=0.1, margin=margin) >= math.log(20.0)
    taken = np.where(passed.any(axis=1), passed.argmax(axis=1) + 1, most + 1)
    assert 0.58 < np.mean(taken <= needed) < 0.75
    assert np.median(taken) == pytest.approx(median, rel=0.2)


def test_a_smaller_error_rate_and_a_smaller_margin_take_more() -> None:
    assert events_needed(1.0, 0.5, 0.01) > events_needed(1.0, 0.5, 0.05)
    assert events_needed(0.25, 0.5, 0.05) > 3 * events_needed(0.5, 0.5, 0.05)


def test_no_number_shows_that_rates_are_equal() -> None:
    assert events_needed(0.0, 0.5, 0.05) == math.inf


@pytest.mark.parametrize(("bad", "least"), [(0.0, 2995), (0.0005, 5000)])
def test_an_objective_takes_at_least_the_rule_of_three(bad: float, least: float) -> None:
    # Without a bad request, n with 0.999^n <= 0.05 is the least that any test needs.
    assert requests_needed(0.001, bad, 0.05) >= least


def test_an_objective_that_is_not_kept_is_never_shown() -> None:
    assert requests_needed(0.001, 0.001, 0.05) == math.inf
