from __future__ import annotations

import re

import pytest

from sre.errors import UsageError
from sre.promises import PROMISES, Promise, promise
from sre.units import Comparison, Unit, show_bound


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.id)
def test_each_row_can_be_judged(row: Promise) -> None:
    assert promise(row.id) is row
    assert row.bound > 0
    assert row.least >= 1
    assert row.drills
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
        ("restore-time", "<", "1 h"),
        ("data-loss", "<", "24 h"),
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
