from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tests.studies.canary.references import Argo, Class, Flagger, Kayenta, Phase, Scored, kayenta_score, mann_whitney

NAN = math.nan
SEVEN = [100.0] * 7 + [1.0] * 3


def below(result: Sequence[float]) -> bool:
    return result[0] < 0.05


def above(result: Sequence[float]) -> bool:
    return result[0] > 0.05


def test_the_numbers_that_a_user_printed_are_reproduced() -> None:
    # spinnaker issue 6278: the interval's ends and the estimate, to the tolerance of its root finder.
    found = mann_whitney(np.array(SEVEN), np.ones(10))
    assert (found.low, found.high, found.shift) == pytest.approx((6.8e-5, 99.0, 98.99993), abs=1e-3)


def test_the_interval_agrees_with_the_test_that_it_inverts() -> None:
    rng = np.random.default_rng(3)
    for shift in np.linspace(0.0, 2.0, 21):
        ours, theirs = rng.normal(shift, 1.0, 20), rng.normal(0.0, 1.0, 20)
        p = mannwhitneyu(ours, theirs, alternative="two-sided", method="asymptotic").pvalue
        assert (mann_whitney(ours, theirs).low > 0) == (p < 0.02 and np.median(ours) > np.median(theirs))


@pytest.mark.parametrize(
    ("canary", "baseline", "found"),
    [
        (SEVEN, [1.0] * 10, Class.PASS),  # kayenta 780: seven of ten at 100 times the baseline
        ([100.0] * 8 + [1.0] * 2, [1.0] * 10, Class.HIGH),  # the eighth flips it
        ([0.0, 1.0, 2.0, 1.0, 0.0, 0.0], [0.0] * 6, Class.PASS),  # kayenta 426: sparse errors
        ([2.0] * 10, [1.0] * 10, Class.HIGH),
        ([3.0, 1.0, 2.0], [1.0, 2.0, 3.0], Class.PASS),
        ([NAN] * 5, [1.0] * 5, Class.NODATA),
        ([1.0, 4.0, 2.0, 3.0, 1.0], [NAN] * 5, Class.NODATA),  # kayenta 799: a baseline without errors
    ],
)
def test_kayenta_classifies(canary: list[float], baseline: list[float], found: Class) -> None:
    assert Kayenta().classify(canary, baseline) is found


def test_kayenta_takes_nothing_for_right_when_it_is_replaced_by_zero() -> None:
    assert Kayenta(nan="replace").classify([NAN] * 5, [1.0] * 5) is Class.PASS
    assert Kayenta(nan="replace").classify([], [1.0] * 5) is Class.PASS
    assert Kayenta(nan="replace", direction="either").classify([NAN, NAN, 5.0, 5.0, 5.0, 5.0], [1.0] * 6) is not Class.NODATA


def test_kayenta_looks_in_the_direction_that_is_asked() -> None:
    lower, higher = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]
    assert Kayenta().classify(lower, higher) is Class.PASS
    assert Kayenta(direction="decrease").classify(lower, higher) is Class.LOW
    assert Kayenta(direction="either").classify(higher, lower) is Class.HIGH
    assert Kayenta(allowed_increase=2.0).classify(higher, lower) is Class.PASS


def test_kayenta_tolerates_relative_to_the_estimate_so_a_small_sharp_shift_is_high() -> None:
    baseline = 100.0 + np.arange(20) * 1e-4
    assert Kayenta().classify(list(baseline + 0.01), list(baseline)) is Class.HIGH


def test_kayenta_takes_outliers_away_only_when_asked() -> None:
    baseline = [float(value) for value in range(1, 1001)]
    canary = [*baseline[:-1], 1e9]
    assert Kayenta(outliers=True).classify(canary, baseline) is Class.PASS
    few = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert Kayenta(outliers=False).classify([*few, 50.0], [*few, 1.9]) is Class.PASS


def test_kayenta_scores_100_with_49_per_cent_of_its_metrics_blind() -> None:
    half = [Scored(name=f"m{n}", found=Class.NODATA if n < 49 else Class.PASS) for n in range(100)]
    assert kayenta_score(half) == 100.0
    assert kayenta_score([*half, Scored(name="m100", found=Class.NODATA), Scored(name="m101", found=Class.NODATA)]) == 0.0


def test_kayenta_takes_a_group_without_data_for_right() -> None:
    metrics = [
        Scored(name="a", found=Class.NODATA, group="errors"),
        Scored(name="b", found=Class.PASS, group="latency"),
        Scored(name="c", found=Class.HIGH, group="latency"),
    ]
    assert kayenta_score(metrics, {"errors": 60.0, "latency": 40.0}) == 80.0
    wanted = [Scored(name="a", found=Class.NODATA, group="errors", must_have_data=True), *metrics[1:]]
    assert kayenta_score(wanted, {"errors": 60.0, "latency": 40.0}) == 20.0
    assert kayenta_score([*metrics[1:], Scored(name="d", found=Class.HIGH, critical=True)]) == 0.0


def test_flagger_compares_with_a_fixed_bound() -> None:
    assert Flagger(high=0.01).run([[0.0]] * 10).state == "promoted"
    assert Flagger(high=0.01).run([[0.0], [0.02]]).state == "rolled-back"
    assert Flagger(high=0.01, threshold=3).run([[0.0], [0.02], [0.02]]).state == "progressing"
    assert Flagger(high=0.01, threshold=3).run([[0.02], [0.0], [0.02], [0.0], [0.02]]).check == 4


def test_flagger_takes_the_last_series_and_rolls_an_idle_canary_back() -> None:
    assert Flagger(high=0.01).run([[0.9, 0.0]] * 10).state == "promoted"
    assert Flagger(high=0.01).run([[0.0, 0.9]]).state == "rolled-back"
    assert Flagger(high=0.01).run([[]]).state == "rolled-back"
    assert Flagger(high=0.01).run([[NAN]]).state == "rolled-back"


def test_flagger_never_rolls_back_while_it_waits_for_traffic() -> None:
    assert Flagger(high=0.01).run([[0.9]] * 20, waiting=range(20)).state == "progressing"


@pytest.mark.parametrize(
    ("argo", "result", "phase"),
    [
        (Argo(success=below), [0.01], Phase.SUCCESSFUL),
        (Argo(success=below), [0.1], Phase.FAILED),
        (Argo(success=below), [NAN], Phase.FAILED),
        (Argo(failure=above), [NAN], Phase.SUCCESSFUL),
        (Argo(success=below, failure=above), [NAN], Phase.INCONCLUSIVE),
        (Argo(success=below, failure=above), [0.1], Phase.FAILED),
        (Argo(success=below), [0.01, 0.9], Phase.SUCCESSFUL),
        (Argo(success=below), [], Phase.ERROR),
        (Argo(), [0.9], Phase.SUCCESSFUL),
    ],
)
def test_argo_measures(argo: Argo, result: list[float], phase: Phase) -> None:
    assert argo.measure(result) is phase


def test_argo_ends_at_its_limits() -> None:
    assert Argo(success=below).run([[0.01]] * 10) == (Phase.SUCCESSFUL, 10)
    assert Argo(success=below, failure_limit=1).run([[0.1], [0.01], [0.1]]) == (Phase.FAILED, 3)
    assert Argo(success=below, failure=above).run([[NAN]]) == (Phase.INCONCLUSIVE, 1)
    # Five errors in a row end it; four and a success do not, and they are not counted.
    assert Argo(success=below).run([[]] * 5) == (Phase.ERROR, 5)
    assert Argo(success=below, count=2).run([[], [], [], [], [0.0], [], [0.0]]) == (Phase.SUCCESSFUL, 7)


def test_argo_takes_a_run_that_ended_early_for_successful() -> None:
    assert Argo(success=below).run([], terminated=True) == (Phase.SUCCESSFUL, 0)
    assert Argo(success=below).run([[]] * 4, terminated=True) == (Phase.SUCCESSFUL, 4)
    assert Argo(success=below, failure_limit=3).run([[0.9]] * 3, terminated=True) == (Phase.SUCCESSFUL, 3)
    assert Argo(success=below).run([[0.0]])[0] is Phase.RUNNING
