from __future__ import annotations

import math

import numpy as np
import pytest

from sre.judges.canary.arms import PRIOR_WORSE
from sre.measure.shares import Shares, log_e_above, log_e_below
from tests.studies.canary.simulate import NEVER, Above, Below, Reached, first
from tests.studies.canary.traffic import Errors


@pytest.mark.parametrize(("share", "margin"), [(0.5, 0.0), (0.1, 0.0), (0.5, 1.0), (0.001, 0.5)])
def test_the_sums_at_which_evidence_is_enough_are_the_functions_own(share: float, margin: float) -> None:
    threshold = math.log(100.0)
    above = Above(threshold, share=share, margin=margin, most=300)
    below = Below(threshold, share=share, margin=margin, most=300)
    for n in range(301):
        s = np.arange(n + 1)
        assert np.array_equal(
            s >= above.least[n], log_e_above(s, n - s, share=share, margin=margin, prior=PRIOR_WORSE) >= threshold
        )
        assert np.array_equal(s <= below.most[n], log_e_below(s, n - s, share=share, margin=margin) >= threshold)


def test_sums_process_and_functions_stop_at_the_same_look() -> None:
    errors = Errors(runs=200, looks=150, canary_per_s=300.0, control_per_s=700.0, ratio=2.0, cluster=2.0)
    threshold = math.log(20.0)
    by_sums = first(errors.draw(1), Above(threshold, share=errors.share))
    short = first(errors.draw(1), Above(threshold, share=errors.share, most=10))
    by_process = first(errors.draw(1), Reached(Shares(share=errors.share, prior=PRIOR_WORSE), threshold))
    assert np.array_equal(by_sums, by_process)
    assert np.array_equal(by_sums, short)
    assert (by_sums != NEVER).mean() > 0.9
    fine = Errors(runs=200, looks=150)
    process = Shares(share=0.5, margin=1.0)
    one = first(fine.draw(2), Below(threshold, share=0.5, margin=1.0))
    assert np.array_equal(one, first(fine.draw(2), Reached(process, threshold, lambda: process.log_e_fine)))
    assert np.array_equal(one, first(fine.draw(2), Below(threshold, share=0.5, margin=1.0, most=10)))


def test_the_first_look_counts_and_never_is_never() -> None:
    looks = [(np.array([0, 40, 0]), np.array([0, 0, 0])), (np.array([40, 0, 0]), np.array([0, 0, 0]))]
    assert first(looks, Above(math.log(20.0), share=0.5)).tolist() == [2, 1, NEVER]
    with pytest.raises(ValueError, match="no look"):
        first([], Above(1.0, share=0.5))
