from __future__ import annotations

import numpy as np
import pytest

from sre.measure.shares import log_e_above
from tests.bench import canary_looks


def test_the_ways_that_are_timed_compute_the_same() -> None:
    canary, control = np.random.default_rng(2).integers(0, 9, (2, 50)).tolist()
    expected = pytest.approx(float(log_e_above(sum(canary), sum(control), share=0.5)), abs=1e-9)
    assert canary_looks.streamed(canary, control) == expected
    assert canary_looks.called(canary, control) == expected


def test_it_prints_a_line_for_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    canary_looks.main(looks=1000)
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("looks/s") for line in lines] == [1, 1, 1, 0]
    assert "1,000 looks" in lines[-1]
