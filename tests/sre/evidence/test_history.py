from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sre.evidence.history import COLUMNS, Trials, trials
from sre.evidence.schema import StepRecord
from sre.promises import promise
from sre.verdict import Outcome
from tests.sre.evidence.test_standing import KEY, run_drill

if TYPE_CHECKING:
    from tests.sre.evidence.test_standing import RunDrill

__all__ = ["run_drill"]

PUBLIC = KEY.public_key()


def of_recovery(root: Path) -> Trials:
    return next(one for one in trials(root, PUBLIC, ["pod-recovery"]) if one.promise.id == "pod-recovery")


def made(measured: tuple[float, ...], kept: int | None = None, undecided: int = 0) -> Trials:
    count = len(measured) if kept is None else kept
    return Trials(
        promise=promise("pod-recovery"), drill="pod-recovery", target="local", measured=measured, kept=count, undecided=undecided
    )


@pytest.mark.parametrize(("runs", "share"), [(59, 0.95), (29, 0.90), (10, 0.74)])
def test_so_many_kept_runs_show_a_share(runs: int, share: float) -> None:
    assert share <= made((1.0,) * runs).least < share + 0.005
    assert made((1.0,) * runs, kept=runs - 1).least < share


def test_nothing_shows_nothing() -> None:
    nothing = made(())
    assert (nothing.least, nothing.interval) == (0.0, None)
    assert math.isnan(nothing.median)
    assert nothing.document()["median"] is None
    assert nothing.row()[4:] == ("0 of 0", "0.0%", "", "", "", "")


def test_the_interval_of_the_median_comes_from_the_order_alone() -> None:
    # Of ten values the 2nd and the 9th: a fair coin falls on one side at most once in 10 with 1.1 % each.
    assert made(tuple(map(float, range(1, 11)))).interval == (2.0, 9.0)
    assert made((1.0, 2.0, 3.0, 4.0, 5.0)).interval is None
    assert made((1.0, 2.0, 3.0, 4.0)).median == 2.0


def test_what_never_came_is_the_worst(tmp_path: Path, run_drill: RunDrill) -> None:
    run_drill(measured=3.0)
    run_drill(Outcome.BROKEN, measured=math.inf)
    found = of_recovery(tmp_path)
    assert (found.measured, found.kept, found.undecided) == ((3.0, math.inf), 1, 0)
    assert dict(zip(COLUMNS, found.row(), strict=True))["kept"] == "1 of 2"
    assert found.document()["measured"] == [3.0, None]


def test_runs_that_decided_nothing_are_counted_and_prove_nothing(tmp_path: Path, run_drill: RunDrill) -> None:
    run_drill(measured=3.0)
    run_drill(Outcome.INCONCLUSIVE, measured=None)
    run_drill(steps=(StepRecord(name="undo", seconds=1.0, result="failed", detail="left"),))
    found = of_recovery(tmp_path)
    assert (found.measured, found.undecided) == ((3.0,), 2)
    assert found.row()[-1] == "2"


def test_only_signed_runs_of_the_chosen_drills_and_target_count(tmp_path: Path, run_drill: RunDrill) -> None:
    run_drill()
    altered = run_drill()
    (altered / "run.json").write_text((altered / "run.json").read_text() + " ")
    found = of_recovery(tmp_path)
    assert len(found.measured) == 1
    assert trials(tmp_path, PUBLIC, ["alerting"]) == []
    assert trials(tmp_path, PUBLIC, target="kubernetes") == []
    assert trials(tmp_path, None) == []


def test_a_verdict_on_another_bound_is_none_on_this_promise(tmp_path: Path, run_drill: RunDrill) -> None:
    run_drill(bound=60.0)
    found = of_recovery(tmp_path)
    assert (found.measured, found.undecided) == ((), 1)
