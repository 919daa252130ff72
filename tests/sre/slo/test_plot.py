from __future__ import annotations

import re

import numpy as np
import pytest

from sre.slo.plot import POINTS, curve, minute, plot, rows, summary
from tests.sre.slo.standings import AT, BEGIN, make_standing

BURNING = make_standing(((10, 12, 0.2), (100, 101, 0.05)))


def test_the_curve_covers_what_was_counted_and_loses_no_event() -> None:
    drawn = curve(BURNING)
    assert (drawn.at[0] > BEGIN, drawn.at[-1], len(drawn.at)) == (True, AT, POINTS)
    assert drawn.events.sum() == pytest.approx(240 * 12_000)
    assert drawn.bad.sum() == pytest.approx(2 * 2400 + 600)
    assert drawn.left[-1] == pytest.approx(BURNING.budget.left)
    assert drawn.burn.max() == pytest.approx(200)


@pytest.mark.parametrize("pixels", [1000.0, 420.0])
@pytest.mark.parametrize("standing", [BURNING, make_standing(), make_standing(((0, 240, 1.0),), an_hour=0.5)])
def test_everything_is_drawn_within_the_frame(pixels: float, standing: object) -> None:
    drawn = plot(standing, curve(standing), pixels)  # type: ignore[arg-type]
    assert drawn.right < pixels
    for panel in drawn.panels:
        heights = [*(tick.at for tick in (*panel.ticks, *panel.bounds))]
        assert all(panel.top <= height <= panel.top + panel.height for height in heights)
    for _, path in drawn.panels[0].paths:
        xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", path)]
        assert xs == sorted(xs)
        assert drawn.left <= xs[0] <= xs[-1] <= drawn.right
    assert drawn.panels[-1].top + drawn.panels[-1].height == drawn.bottom < drawn.height
    assert len(drawn.times) >= 2


def test_incidents_are_shaded_where_they_were() -> None:
    first, second = plot(BURNING, curve(BURNING), 1000.0).incidents
    assert first.x < second.x
    assert first.name == "incident, 55.56 %"


def test_the_chart_has_a_sentence_and_a_table() -> None:
    drawn = curve(BURNING)
    table = rows(drawn)
    assert len(table) == POINTS
    assert table[-1] == (minute(AT), "-87.50 %", "0.00", "12,000", "0")
    assert summary(BURNING, drawn).startswith("5,400 bad events of 2,880,000; least budget left ")
    assert summary(BURNING, drawn).endswith("incidents: 2.")
    assert not np.isnan(drawn.left).any()
