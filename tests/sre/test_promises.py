from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.errors import UsageError
from sre.promises import PROMISES, Freshness, Promise, freshness, promise
from sre.units import Comparison, Unit, show_bound

DAY = 86_400.0


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.id)
def test_each_row_can_be_judged(row: Promise) -> None:
    assert promise(row.id) is row
    assert row.bound > 0
    assert row.least >= 1
    assert row.drills
    assert DAY <= row.fresh_for_s <= 30 * DAY
    assert re.fullmatch(r"[a-z0-9-]+", row.id)
    assert row.unit is not Unit.RATIO or row.bound < 1


def test_ids_are_unique() -> None:
    assert len({row.id for row in PROMISES}) == len(PROMISES)


@pytest.mark.parametrize(
    ("promise_id", "comparison", "bound"),
    [
        ("throughput", ">=", "1,000/s"),
        ("latency-p95", "<", "500 ms"),
        ("latency-p99", "<", "1 s"),
        ("error-rate", "<", "0.1 %"),
        ("availability", ">=", "99.9 %"),
        ("pod-recovery", "<", "30 s"),
        ("database-recovery", "<", "10 min"),
        ("restore-time", "<", "1 h"),
        ("data-loss", "<", "24 h"),
        ("canary", "<", "1"),
        ("canary-requests", "<", "1"),
        ("canary-rollback", "<", "32 s"),
    ],
)
def test_bounds_are_those_of_the_architecture_document(promise_id: str, comparison: str, bound: str) -> None:
    row = promise(promise_id)
    assert (row.comparison, show_bound(row.bound, row.unit)) == (Comparison(comparison), bound)


@pytest.mark.parametrize("row", [row for row in PROMISES if row.unit is Unit.RATIO], ids=lambda row: row.id)
def test_the_least_samples_of_a_ratio_can_tell_it_from_its_bound(row: Promise) -> None:
    # With no failure at all, the exact 95 % interval of n requests ends at about 3.7 / n.
    allowed = row.bound if row.comparison is Comparison.BELOW else 1 - row.bound
    assert 3.7 / row.least < allowed


def test_an_unknown_promise_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="pod-recovery"):
        promise("pod-recovrey")


@pytest.mark.parametrize(
    ("promise_id", "days"), [("pod-recovery", 7), ("throughput", 7), ("restore-time", 8), ("model-quality", 30)]
)
def test_evidence_ages(promise_id: str, days: int) -> None:
    row, now = promise(promise_id), 1_800_000_000.0
    assert freshness(row, now - days * DAY, now) is Freshness.FRESH
    assert freshness(row, now - days * DAY - 1, now) is Freshness.STALE


def test_no_evidence_is_never_fresh() -> None:
    assert freshness(promise("pod-recovery"), None, 0.0) is Freshness.NEVER


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_evidence_from_the_future_is_not_fresh(ahead: float) -> None:
    assert freshness(promise("pod-recovery"), 1_800_000_000.0 + max(ahead, 1e-3), 1_800_000_000.0) is Freshness.STALE


@pytest.mark.parametrize("kept_at", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_is_not_fresh(kept_at: float) -> None:
    assert freshness(promise("pod-recovery"), kept_at, 1_800_000_000.0) is Freshness.STALE
