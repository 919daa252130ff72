from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.measure import quantiles
from sre.measure.quantiles import answered, blocks, estimate_mean, estimate_quantile, latencies, quantile
from sre.measure.samples import Failure, Recording, Samples

MakeRecording = Callable[..., tuple[Recording, Samples]]


@pytest.mark.parametrize("failure", [kind for kind in Failure if kind is not Failure.NONE], ids=lambda kind: kind.name)
def test_every_kind_of_failure_waited_for_ever(failure: Failure, make_recording: MakeRecording) -> None:
    _, samples = make_recording(rate=1.0, seconds=4.0, wait=0.25)
    samples["failure"][2] = failure
    np.testing.assert_allclose(latencies(samples), [0.25, 0.25, math.inf, 0.25])


@pytest.mark.parametrize("done", [math.nan, math.inf, 0.0])
def test_a_record_whose_time_is_impossible_proves_no_answer(done: float, make_recording: MakeRecording) -> None:
    _, samples = make_recording(rate=1.0, seconds=2.0)
    samples["done"][1] = done
    assert answered(samples).tolist() == [True, False]
    assert latencies(samples)[1] == math.inf


def test_latency_counts_from_the_planned_send(make_recording: MakeRecording) -> None:
    _, samples = make_recording(rate=1.0, seconds=1.0, wait=2.5, late=2.0)
    assert latencies(samples)[0] == pytest.approx(2.5)


@given(st.lists(st.floats(min_value=0.0, max_value=20.0) | st.just(math.inf), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_the_smallest_sample_that_covers_its_share(values: list[float], q: float) -> None:
    found = quantile(np.array(values), q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9
    assert sum(value < found for value in values) < q * len(values) + 1e-9


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile(np.array([]), 0.95))


@pytest.mark.parametrize(("span", "count"), [(0.0, 1), (-5.0, 1), (0.5, 1), (12.0, 12), (60.0, 60), (600.0, 60)])
def test_blocks_are_at_most_sixty_and_at_least_a_second(span: float, count: int) -> None:
    found, number = blocks(np.array([0.0, span]), 0.0, span)
    assert number == count
    assert found.tolist() == [0, count - 1 if span > 0 else 0]


def estimate(waited: np.ndarray, q: float, seconds: float = 60.0) -> quantiles.Estimate:
    return estimate_quantile(np.linspace(0.0, seconds, len(waited), endpoint=False), waited, q, 0.0, seconds)


def test_the_value_is_exact_and_the_interval_holds_it() -> None:
    waited = np.random.default_rng(3).lognormal(-3.0, 0.5, 20_000)
    found = estimate(waited, 0.95)
    assert found.value == quantile(waited, 0.95)
    assert found.interval is not None
    low, high = found.interval
    assert low < found.value < high


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # 95 of 100 exponential loads expected; fewer than 86 has a probability of 0.0002 for an exact interval.
    random = np.random.default_rng(11)
    truth = -math.log(0.05)
    covered = 0
    for _ in range(100):
        low, high = estimate(np.round(random.exponential(1.0, 600), 2), 0.95).interval or (math.nan, math.nan)
        covered += low <= truth <= high
    assert covered >= 86


def test_slow_seconds_in_a_row_widen_the_interval_more_than_the_same_samples_scattered() -> None:
    random = np.random.default_rng(5)
    scattered = np.where(random.random(6000) < 0.06, 1.0, 0.02) * random.uniform(0.9, 1.1, 6000)
    burst = np.concatenate([np.sort(part) for part in np.split(np.sort(scattered), [5400])])
    together, apart = estimate(burst, 0.90).interval, estimate(scattered, 0.90).interval
    assert together is not None
    assert apart is not None
    assert together[1] > 10 * apart[1]


def test_bins_cost_at_most_a_thousandth() -> None:
    found = estimate(np.full(6000, 0.123_456), 0.99)
    assert found.interval is not None
    assert found.value <= found.interval[1] <= found.value * 1.001


def test_the_same_samples_give_the_same_interval() -> None:
    waited = np.random.default_rng(3).lognormal(-3.0, 0.5, 5000)
    assert estimate(waited, 0.99) == estimate(waited, 0.99)


@pytest.mark.parametrize("value", [0.0, 1e-9, 5e3, math.inf])
def test_latencies_beyond_the_bins_stay_on_the_safe_side(value: float) -> None:
    found = estimate(np.full(600, value), 0.95)
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]


def test_a_span_of_few_blocks_has_no_interval() -> None:
    assert estimate(np.full(900, 0.1), 0.95, seconds=9.0).interval is None
    assert estimate_mean(np.full(9, 1000.0)).interval is None


def test_no_samples_have_no_value() -> None:
    found = estimate(np.array([]), 0.95)
    assert math.isnan(found.value)
    assert found.interval is None
    assert math.isnan(estimate_mean(np.array([])).value)


def test_a_mean_lies_in_its_interval_and_a_steady_one_is_known_exactly() -> None:
    assert estimate_mean(np.full(60, 1043.0)).interval == (1043.0, 1043.0)
    found = estimate_mean(np.random.default_rng(1).normal(1000.0, 30.0, 60))
    assert found.interval is not None
    low, high = found.interval
    assert low < found.value < high
    # Four standard errors of 30 / sqrt(60) are 15.5.
    assert high - low == pytest.approx(15.5, rel=0.3)
