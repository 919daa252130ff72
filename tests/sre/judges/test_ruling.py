from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.judges.manifests.objects import Finding
from sre.judges.ruling import doubt, rule, ruled, verdict
from sre.promises import PROMISES, Promise, promise
from sre.units import Comparison
from sre.verdict import Outcome

P95, THROUGHPUT = promise("latency-p95"), promise("throughput")
ANY_FLOAT = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf])
RANK = {Outcome.BROKEN: 0, Outcome.INCONCLUSIVE: 1, Outcome.KEPT: 2}


@pytest.mark.parametrize(
    ("row", "measured", "interval", "outcome"),
    [
        (P95, 0.3, (0.2, 0.4), Outcome.KEPT),
        (P95, 0.49, (0.4, 0.6), Outcome.INCONCLUSIVE),
        (P95, 0.49, (0.4, 0.5), Outcome.INCONCLUSIVE),
        (P95, 0.5, (0.4, 0.6), Outcome.BROKEN),
        (P95, math.inf, (0.4, math.inf), Outcome.BROKEN),
        (P95, math.inf, None, Outcome.BROKEN),
        (P95, 0.3, None, Outcome.INCONCLUSIVE),
        (P95, math.nan, (0.2, 0.4), Outcome.INCONCLUSIVE),
        (P95, 0.3, (0.2, math.nan), Outcome.INCONCLUSIVE),
        (P95, 0.3, (0.2, math.inf), Outcome.INCONCLUSIVE),
        (P95, -math.inf, (0.1, 0.2), Outcome.INCONCLUSIVE),
        (THROUGHPUT, 1043.0, (1000.0, 1080.0), Outcome.KEPT),
        (THROUGHPUT, 1043.0, (999.9, 1080.0), Outcome.INCONCLUSIVE),
        (THROUGHPUT, 999.9, (990.0, 1010.0), Outcome.BROKEN),
        (THROUGHPUT, math.inf, (1043.0, math.inf), Outcome.INCONCLUSIVE),
    ],
)
def test_the_value_decides_between_kept_and_broken_and_the_interval_may_doubt(
    row: Promise, measured: float, interval: tuple[float, float] | None, outcome: Outcome
) -> None:
    assert rule(row, measured, interval, row.least, "measured").outcome is outcome


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.id)
def test_one_sample_too_few_is_never_kept(row: Promise) -> None:
    good = row.bound / 2 if row.comparison is Comparison.BELOW else row.bound * 2
    assert rule(row, good, (good, good), row.least, "measured").outcome is Outcome.KEPT
    judged = rule(row, good, (good, good), row.least - 1, "measured")
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert f"of at least {row.least:,} samples" in judged.why


@given(st.sampled_from(PROMISES), ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, st.integers(0, 100_000))
def test_kept_means_value_and_interval_keep_the_bound_with_enough_samples(
    row: Promise, measured: float, low: float, high: float, n: int
) -> None:
    judged = rule(row, measured, (low, high), n, "measured")
    if judged.outcome is Outcome.KEPT:
        assert n >= row.least
        assert math.isfinite(measured)
        assert all(row.comparison.holds(value, row.bound) for value in (measured, low, high))
    assert judged.measured is None or not math.isnan(judged.measured)


@given(st.sampled_from(PROMISES), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_worse_value_never_improves_the_verdict(row: Promise, value: float, width: float, worsening: float) -> None:
    sign = 1 if row.comparison is Comparison.BELOW else -1
    worse = value + sign * worsening

    def rank(measured: float) -> int:
        return RANK[rule(row, measured, (measured - width, measured + width), row.least, "measured").outcome]

    assert rank(worse) <= rank(value)


def test_doubt_takes_the_ground_from_kept_alone() -> None:
    kept = verdict(P95, Outcome.KEPT, 0.3, (0.2, 0.4), 1000, "fast")
    broken = replace(kept, outcome=Outcome.BROKEN)
    assert doubt(kept, []) is kept
    assert doubt(kept, ["the sources disagree"]) == replace(
        kept, outcome=Outcome.INCONCLUSIVE, why="fast; but the sources disagree"
    )
    assert doubt(broken, ["the sources disagree"]) is broken


def test_doubt_can_overturn_broken_where_the_generator_may_be_to_blame() -> None:
    broken = verdict(P95, Outcome.BROKEN, 0.9, (0.8, 1.0), 1000, "slow")
    assert doubt(broken, ["it was late"], frozenset({Outcome.KEPT, Outcome.BROKEN})).outcome is Outcome.INCONCLUSIVE


def test_findings_break_a_promise_and_nothing_is_no_pass() -> None:
    row = promise("volume-restore")
    found = [Finding("file-lost", f"c ./{number}", "is gone") for number in range(5)]
    broken = ruled(row, found, 9, "all there")
    assert (broken.outcome, broken.measured, broken.n) == (Outcome.BROKEN, 5.0, 9)
    assert broken.why == "file-lost: c ./0 is gone; file-lost: c ./1 is gone; file-lost: c ./2 is gone; and 2 more"
    assert ruled(row, [], 0, "all there").outcome is Outcome.INCONCLUSIVE
    assert ruled(row, found, 0, "all there").outcome is Outcome.BROKEN
    kept = ruled(row, [], 9, "all there")
    assert (kept.outcome, kept.measured, kept.n, kept.why) == (Outcome.KEPT, 0.0, 9, "all there")
