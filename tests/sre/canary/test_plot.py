from __future__ import annotations

import math

from sre.canary import plan as plans
from sre.canary import plot
from sre.canary.judge import Judged
from sre.judges.canary.decision import Action
from sre.judges.canary.observation import Interval, Missing, Trouble
from tests.sre.canary.simulated import PLAN
from tests.sre.canary.test_view import metric, standing

THE_PLAN = plans.parse(PLAN)
GONE = Missing("errors", Trouble.STALE, "errors: old")


def judged(count: int, *, stage_from: int = 10**9, worse: float = 0.5, missing: int = -1) -> list[Judged]:
    """Looks every 2 s."""
    found = []
    for number in range(count):
        index = int(number >= stage_from)
        gone = (GONE,) if number == missing else ()
        interval = Interval(2.0 * number, 2.0 * number + 2, index, 10, 10, {}, gone)
        told = standing(log_e_rollback=worse, metrics=(metric(log_e_fine=0.1 * number), metric(name="crashes", log_e_fine=None)))
        found.append(Judged(interval=interval, standing=told, action=Action.HOLD, why="not yet", late=False))
    return found


def test_nothing_is_drawn_of_nothing() -> None:
    assert plot.plot(THE_PLAN, [], 1000.0) is None
    assert plot.rows([]) == []


def test_panels_stages_and_gaps_share_one_axis() -> None:
    drawn = plot.plot(THE_PLAN, judged(20, stage_from=10, missing=4), 1000.0)
    assert drawn is not None
    worse, fine = drawn.panels
    assert [name for _, name, _ in worse.lines] == ["together"]
    assert [name for _, name, _ in fine.lines] == ["errors"]
    assert (worse.threshold.label, fine.threshold.label) == ("threshold 100", "threshold 20")
    assert [stage.name for stage in drawn.stages] == ["10 %", "50 %"]
    assert drawn.stages[0].x == drawn.left
    assert drawn.stages[0].x + drawn.stages[0].width == drawn.stages[1].x
    assert len(drawn.gaps) == 1
    assert [tick.label for tick in drawn.times][:2] == ["0 s", "5 s"]
    assert "20 looks in 40 s" in drawn.summary
    assert "1 looks lacked data" in drawn.summary


def test_what_is_beyond_the_panel_stays_at_its_rim() -> None:
    for worse in (500.0, -500.0, -math.inf):
        drawn = plot.plot(THE_PLAN, judged(3, worse=worse), 420.0)
        assert drawn is not None
        panel = drawn.panels[0]
        heights = [float(pair.split(" ")[1]) for pair in panel.lines[0][2].removeprefix("M").removesuffix("h.1").split("L")]
        assert all(panel.top <= height <= panel.top + panel.height for height in heights)


def test_a_long_rollout_keeps_its_peak_and_its_end() -> None:
    looks = judged(2000)
    peak = judged(1, worse=4.0)[0]
    looks[777] = Judged(interval=looks[777].interval, standing=peak.standing, action=Action.HOLD, why="peak", late=False)
    rows = plot.rows(looks)
    assert len(rows) <= 241
    assert rows[-1][0] == "4,000 s"
    assert next(row for row in rows if row[5] == "peak")[3] == "54"
