from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.studies.slo import ledger
from tests.studies.slo.ledger import LedgerResult
from tests.studies.slo.traffic import ALLOWED


def test_a_counter_that_begins_again_counts_from_zero() -> None:
    found = ledger._counter(np.array([5.0, 5.0, 5.0, 5.0]), np.array([2]))
    assert found.tolist() == [0, 5, 10, 5, 10]


def test_an_idle_night_makes_a_mean_of_ratios_no_number() -> None:
    assert ledger._averaged(np.zeros(10), np.array([1.0] * 5 + [0.0] * 5)) is None
    assert ledger._averaged(np.array([1.0] + [0.0] * 9), np.ones(10)) == 0.1 / ALLOWED


def test_a_day_comes_back_whole_from_prometheus(programs: Path) -> None:
    found = LedgerResult(**ledger.run(1, 2, programs))
    assert (found.read_bad, found.read_total) == (found.bad, found.total)
    assert found.off <= ledger.TOLERANCE
    assert found.resets > 0
    assert found.averaged is None
