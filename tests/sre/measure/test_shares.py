import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.errors import UsageError
from sre.measure.shares import (
    Shares,
    limit_share,
    log_e_above,
    log_e_below,
    log_e_proportion_below,
    log_e_shares,
)

ALPHA = 0.05
counts = st.integers(min_value=0, max_value=10**9)


def exact_upper(a: int, b: int, at: Fraction) -> Fraction:
    """Integral of t^(a-1) (1-t)^(b-1) from `at` to 1 over at^a (1-at)^b, whole a and b, by the binomial tail."""
    n = a + b - 1
    tail = sum((math.comb(n, j) * at**j * (1 - at) ** (n - j) for j in range(a)), Fraction(0))
    beta = Fraction(math.factorial(a - 1) * math.factorial(b - 1), math.factorial(n))
    return beta * tail / (at**a * (1 - at) ** b)


def log_of(value: Fraction) -> float:
    """Natural logarithm of a fraction too large or small for a float."""
    shift = value.numerator.bit_length() - value.denominator.bit_length()
    return math.log(value / Fraction(2) ** shift) + shift * math.log(2.0)


def exact_log_e_above(s: int, f: int) -> float:
    """With share 1/10, margin 0, prior 10: a = 1, b = 9."""
    at = Fraction(1, 10)
    return log_of(exact_upper(1 + s, 9 + f, at) / exact_upper(1, 9, at))


@pytest.mark.parametrize(("s", "f"), [(0, 0), (1, 0), (0, 400), (40, 360), (60, 340), (300, 100), (900, 0), (5, 2000)])
def test_evidence_above_is_exact(s: int, f: int) -> None:
    assert float(log_e_above(s, f, share=0.1)) == pytest.approx(exact_log_e_above(s, f), rel=1e-10, abs=1e-10)


def test_above_and_below_mirror_each_other() -> None:
    s, f = np.array([0, 3, 50, 700]), np.array([9, 1, 60, 20])
    there = log_e_above(s, f, share=0.3, margin=0.5)
    back = log_e_below(f, s, share=0.7, margin=1.0 / 1.5 - 1.0)
    np.testing.assert_allclose(there, back, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(s=counts, f=counts, share=st.floats(0.001, 0.999), margin=st.floats(0.0, 3.0))
def test_evidence_is_finite_and_never_for_both_sides(s: int, f: int, share: float, margin: float) -> None:
    above = float(log_e_above(s, f, share=share, margin=margin))
    below = float(log_e_below(s, f, share=share, margin=margin))
    assert math.isfinite(above)
    assert math.isfinite(below)
    assert min(above, below) < math.log(2.0)


@settings(deadline=None)
@given(s=counts, f=counts, share=st.floats(0.001, 0.999), margin=st.floats(0.0, 3.0), prior=st.sampled_from([1.0, 10.0]))
def test_one_count_and_many_give_the_same(s: int, f: int, share: float, margin: float, prior: float) -> None:
    balanced = round((s + f) * limit_share(share, margin))  # where what cancels is largest
    pairs = np.array([(s, f), (balanced, s + f - balanced), (s, 0), (0, f)])
    many = np.tile(pairs, (100, 1))
    for log_e in (log_e_above, log_e_below):
        arrays = log_e(many[:, 0], many[:, 1], share=share, margin=margin, prior=prior)
        few = log_e(pairs[:, 0], pairs[:, 1], share=share, margin=margin, prior=prior)
        ones = [float(log_e(int(a), int(b), share=share, margin=margin, prior=prior)) for a, b in pairs]
        np.testing.assert_allclose(few, ones, rtol=0.0)
        np.testing.assert_allclose(arrays, np.tile(ones, 100), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("s", "f", "log_e"),  # summed in 30 digits from the series of DLMF 8.17.8, all of whose terms are positive
    [
        (1003, 8997, -3.20749632526662),
        (90_000, 910_000, -9.31659895195427),
        (100_300, 899_700, -4.56512686699077),
        (111_000, 889_000, 646.516920360131),
        (10_000_000, 90_000_000, -7.88600769782124),
        (10_005_000, 89_995_000, -5.85332095135118),
    ],
)
def test_it_is_exact_at_large_counts(s: int, f: int, log_e: float) -> None:
    assert float(log_e_above(s, f, share=0.1)) == pytest.approx(log_e, rel=1e-9)
    assert float(log_e_above([s] * 100, f, share=0.1)[0]) == pytest.approx(log_e, rel=1e-9)


@settings(deadline=None)
@given(s=st.integers(0, 10**6), f=st.integers(0, 10**6))
def test_more_events_of_the_canary_are_more_evidence_against_it(s: int, f: int) -> None:
    assert log_e_above(s + 1, f, share=0.2, margin=0.5) > log_e_above(s, f, share=0.2, margin=0.5)
    assert log_e_below(s, f + 1, share=0.2, margin=0.5) > log_e_below(s, f, share=0.2, margin=0.5)


def test_the_expected_evidence_after_one_more_event_at_the_null_is_the_evidence_before() -> None:
    s, f = np.array([0.0, 4.0, 1e3, 1e6]), np.array([2.0, 90.0, 1e4, 1e7])
    at = limit_share(0.1, 0.5)
    for log_e in (log_e_above, log_e_below):
        now = log_e(s, f, share=0.1, margin=0.5)
        gain = at * np.exp(log_e(s + 1, f, share=0.1, margin=0.5) - now)
        gain += (1.0 - at) * np.exp(log_e(s, f + 1, share=0.1, margin=0.5) - now)
        np.testing.assert_allclose(gain, 1.0, rtol=1e-6)


def test_a_billion_events_read_the_entropy() -> None:
    s, f = 2e8, 8e8
    at = limit_share(0.1, 0.0)
    entropy = s * math.log(0.2 / at) + f * math.log(0.8 / (1.0 - at))
    assert float(log_e_above(s, f, share=0.1)) == pytest.approx(entropy, rel=1e-6)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_false_alarms_at_the_margin_stay_below_the_level(margin: float) -> None:
    rng = np.random.default_rng(20)
    at = limit_share(0.1, margin)
    s = (rng.random((400, 2000)) < at).cumsum(axis=0)
    f = np.arange(1, 401)[:, None] - s
    for log_e in (log_e_above, log_e_below):
        crossed = (log_e(s, f, share=0.1, margin=margin) >= math.log(1.0 / ALPHA)).any(axis=0)
        assert 0.01 < crossed.mean() < ALPHA + 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / 2000)


def test_a_healthy_canary_of_ten_percent_needs_a_hundred_events_at_margin_two() -> None:
    rng = np.random.default_rng(21)
    s = (rng.random((600, 400)) < 0.1).cumsum(axis=0)
    f = np.arange(1, 601)[:, None] - s
    fine = log_e_below(s, f, share=0.1, margin=1.0) >= math.log(20.0)
    assert fine.any(axis=0).mean() > 0.99
    assert 90 <= np.median(fine.argmax(axis=0) + 1) <= 150


def test_an_objective_is_shown_kept_and_hardly_ever_when_it_is_not() -> None:
    rng = np.random.default_rng(22)
    n = 500 * np.arange(1, 201)[:, None]
    bad = {share: rng.binomial(500, share, size=(200, 1000)).cumsum(axis=0) for share in (0.002, 0.01)}
    shown = {share: (log_e_proportion_below(s, n, at_most=0.01) >= math.log(20.0)).any(axis=0).mean() for share, s in bad.items()}
    assert shown[0.002] == 1.0
    assert shown[0.01] < 0.065


def test_the_split_of_requests_has_the_published_value() -> None:
    # M. Lindon's example: two arms .8 : .2, rates e^1.5 and e^2; found after 210 events.
    weights = np.array([0.8, 0.2]) * np.exp([1.5, 2.0])
    draws = np.random.RandomState(1).multinomial(1, weights / weights.sum(), size=1000).cumsum(axis=0)
    log_e = log_e_shares(draws, [0.8, 0.2])
    n = int(np.argmax(log_e >= math.log(20.0)))
    assert n + 1 == 210
    assert math.exp(-log_e[n]) == pytest.approx(0.045580, abs=5e-7)


def test_a_split_that_is_a_fifth_off_is_found_within_ten_thousand_requests() -> None:
    rng = np.random.default_rng(23)
    canary = rng.binomial(100, 0.12, size=(100, 500)).cumsum(axis=0)
    counts = np.stack([canary, 100 * np.arange(1, 101)[:, None] - canary], axis=-1)
    assert (log_e_shares(counts, [0.1, 0.9]) >= math.log(1000.0)).any(axis=0).mean() > 0.95


def test_running_evidence_does_not_depend_on_the_portions() -> None:
    rng = np.random.default_rng(24)
    s, f = rng.poisson(1.0, 300), rng.poisson(8.0, 300)
    one, whole = Shares(share=0.1, margin=0.5), Shares(share=0.1, margin=0.5)
    for a, b in zip(s, f, strict=True):
        one.update(a, b)
    whole.update(s.sum(), f.sum())
    assert one.log_e == whole.log_e == log_e_above(s.sum(), f.sum(), share=0.1, margin=0.5)
    assert one.log_e_fine == whole.log_e_fine == log_e_below(s.sum(), f.sum(), share=0.1, margin=0.5)


def test_processes_side_by_side_are_as_each_alone() -> None:
    rng = np.random.default_rng(25)
    for shape in ((), (3,), (100,)):
        processes = [Shares(share=0.2, margin=0.5) for _ in range(5)]
        for begun in range(1, 5):
            for process in processes[:begun]:
                process.update(rng.poisson(3.0, shape), rng.poisson(9.0, shape))
        each = Shares.log_e_each(processes)
        assert each.shape == (5, *shape)
        for row, process in zip(each, processes, strict=True):
            np.testing.assert_allclose(row, np.broadcast_to(process.log_e, shape), rtol=1e-9, atol=1e-12)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(UsageError, match="share 1 and margin 0"):
        Shares(share=1.0)
    with pytest.raises(UsageError, match="margin -1"):
        log_e_above(1, 1, share=0.5, margin=-1.0)
    with pytest.raises(UsageError, match="at most 0 cannot"):
        log_e_proportion_below(0, 10, at_most=0.0)
    with pytest.raises(UsageError, match="each must be positive"):
        log_e_shares([1, 2], [0.0, 1.0])
