from __future__ import annotations

import math

import pytest

from tests.studies.canary.figures import Figure
from tests.studies.canary.goals import Bound, Goal, Judged
from tests.studies.canary.journal import Result
from tests.studies.canary.report import line, plots, rows, sentence, show


@pytest.mark.parametrize(
    ("value", "unit", "up", "told"),
    [
        (0.00341, "share", True, "0.341 %"),
        (0.003411, "share", True, "0.342 %"),
        (0.003419, "share", False, "0.341 %"),
        (123.4, "s", True, "124 s"),
        (0.0, "share", True, "0 %"),
        (math.inf, "s", True, "never"),
        (-math.inf, "s", False, "unknown"),
    ],
)
def test_values_are_rounded_against_ourselves(value: float, unit: str, *, up: bool, told: str) -> None:
    assert show(value, unit, up=up) == told


def test_a_line_shows_the_bound_that_decides() -> None:
    most = Goal("C1", "sentence", "cell", "figure", Bound("<=", 0.012))
    least = Goal("C7", "sentence", "cell", "figure", Bound(">=", 0.75))
    figure = Figure(0.01, 0.005, 0.02, 100)
    assert line(Judged(most, figure)) == ("1.00 %", "2.00 %", "≤ 1.2 %")
    assert line(Judged(least, figure)) == ("1.00 %", "0.500 %", "≥ 75 %")
    assert line(Judged(least, None)) == ("not run", "", "≥ 75 %")
    assert rows([Judged(least, None)])[0][0] == "OPEN"
    assert sentence([Judged(most, figure), Judged(least, figure)]) == "0 of 2 goals reached, 1 missed, 1 open"


def test_a_plot_holds_what_never_came() -> None:
    figures = {"x2 every 1 s, s": Figure(100.0, 80.0, 120.0, 9), "x3 every 1 s, s": Figure(math.inf, 50.0, math.inf, 9)}
    (plot,) = plots({"detect-rest": Result("detect-rest", 1.0, figures)})
    assert [bar.value for bar in plot.bars] == ["100 s", "never"]
    assert plot.bars[1].width == plot.bars[1].high == max(bar.high for bar in plot.bars)
    assert plots({}) == []
