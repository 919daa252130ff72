import math
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.measure.evidence import Evidence, Floats, Restarting, _place, log_mean
from sre.measure.shares import Shares

fair = partial(Shares, share=0.5)


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
def test_the_mean_lies_between_its_values(logs: list[float]) -> None:
    assert min(logs) - 1e-9 <= float(log_mean(logs)) <= max(logs) + 1e-9


def test_the_mean_is_weighted_along_its_axis() -> None:
    logs = np.log([[1.0, 3.0], [5.0, 9.0]])
    np.testing.assert_allclose(log_mean(logs, [1.0, 3.0]), np.log([2.5, 8.0]))
    np.testing.assert_allclose(log_mean(logs, axis=0), np.log([3.0, 6.0]))


def test_the_stakes_of_all_processes_sum_to_one() -> None:
    spent = np.cumsum([_place(look)[0] for look in range(1, 2**16)])
    assert 0.8 < spent[-1] < 1.0
    # By level and index both sums telescope: 1 - 1 / (levels + 1), and 1 - 1 / log2(indices + 2).
    square = sum(_place((2 * i + 1) << level)[0] for level in range(50) for i in range(1000))
    assert square == pytest.approx((1.0 - 1.0 / 51.0) * (1.0 - 1.0 / math.log2(1002.0)))


@pytest.mark.parametrize("change", [1, 37, 1000])
def test_soon_after_every_look_a_process_begins_that_lasts(change: int) -> None:
    for needed in (1, 2, 8, 64):
        begins = [look for look in range(change, change + 2 * needed) if _place(look)[1] >= 2 * needed]
        assert begins


def test_without_data_the_evidence_is_one() -> None:
    mixture = Restarting(fair)
    for _ in range(50):
        mixture.update(0, 0)
        assert float(mixture.log_e) == pytest.approx(0.0, abs=1e-12)
    mixture.stage(partial(Shares, share=0.1))
    assert float(mixture.log_e) == pytest.approx(0.0, abs=1e-12)


def test_a_change_of_stage_keeps_the_evidence() -> None:
    mixture = Restarting(fair)
    for _ in range(20):
        mixture.update(3, 1)
    before = float(mixture.log_e)
    mixture.stage(partial(Shares, share=0.25))
    assert float(mixture.log_e) == pytest.approx(before, abs=1e-12)
    assert before > math.log(20.0)


def test_one_more_look_at_the_null_is_expected_to_change_nothing() -> None:
    """Both possible outcomes of the next event, each with probability 1/2, from many histories."""
    rng = np.random.default_rng(3)
    history = rng.random((64, 200)) < 0.5
    after = []
    for outcome in (1, 0):
        mixture = Restarting(fair)
        for heads in history:
            mixture.update(heads, ~heads)
        now = mixture.log_e
        mixture.update(outcome, 1 - outcome)
        after.append(mixture.log_e)
    np.testing.assert_allclose(0.5 * (np.exp(after[0] - now) + np.exp(after[1] - now)), 1.0, rtol=1e-9)


class Alone:
    """`Shares` that the mixture does not know as such, so that each is evaluated by itself."""

    def __init__(self, share: float) -> None:
        self._process = Shares(share=share)

    def update(self, canary: npt.ArrayLike, control: npt.ArrayLike, /) -> None:
        self._process.update(canary, control)

    @property
    def log_e(self) -> Floats:
        return self._process.log_e


@pytest.mark.parametrize("tests", [1, 20])
def test_processes_evaluated_at_once_are_worth_what_each_is_alone(tests: int) -> None:
    rng = np.random.default_rng(6)
    at_once, alone = Restarting(partial(Shares, share=0.1)), Restarting(partial(Alone, 0.1))
    for look in range(100):
        if look == 40:
            at_once.stage(fair)
            alone.stage(partial(Alone, 0.5))
        counts = rng.poisson(1.0, tests), rng.poisson(3.0, tests)
        for mixture in (at_once, alone):
            mixture.update(*counts)
        np.testing.assert_allclose(at_once.log_e, alone.log_e, rtol=1e-12, atol=1e-12)


def test_false_alarms_over_two_stages_stay_below_the_level() -> None:
    rng = np.random.default_rng(4)
    runs, crossed = 2000, np.zeros(2000, dtype=bool)
    mixture = Restarting(partial(Shares, share=0.1))
    for look in range(120):
        if look == 60:
            mixture.stage(fair)
        share = 0.1 if look < 60 else 0.5
        mixture.update(rng.poisson(2.0 * share, runs), rng.poisson(2.0 * (1.0 - share), runs))
        crossed |= mixture.log_e >= math.log(20.0)
    assert 0.0 < crossed.mean() < 0.05


def test_a_long_healthy_time_does_not_blunt_it() -> None:
    rng = np.random.default_rng(5)
    runs, healthy = 60, 500
    mixture, single = Restarting(fair), fair()
    processes: tuple[Evidence, ...] = (mixture, single)
    found = np.full((2, runs), np.inf)
    for look in range(healthy + 60):
        ratio = 5.0 if look >= healthy else 1.0
        events = rng.poisson(ratio, runs), rng.poisson(1.0, runs)
        for row, process in enumerate(processes):
            process.update(*events)
            first = (process.log_e >= math.log(20.0)) & np.isinf(found[row])
            found[row, first] = look + 1 - healthy
    by_mixture, by_single = np.median(found, axis=1)
    assert by_mixture <= 15
    assert by_single > 1.5 * by_mixture
