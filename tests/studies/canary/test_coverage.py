from __future__ import annotations

import numpy as np
import pytest

from tests.studies.canary.coverage import BOUNDED


@pytest.mark.parametrize("name", BOUNDED)
def test_values_lie_within_0_and_1_around_the_mean_that_is_told(name: str) -> None:
    draw, mean = BOUNDED[name]
    values = draw(np.random.default_rng(6), (1000, 400))
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.mean() == pytest.approx(mean, abs=5 * values.std() / np.sqrt(values.size))
