from __future__ import annotations

import math

import pytest

from tests.studies.canary.figures import Figure
from tests.studies.canary.goals import Bound, Goal, Judged, Word, goals, judge
from tests.studies.canary.journal import Result
from tests.studies.canary.study import all_cells


def goal(comparison: str) -> Goal:
    return Goal("C1", "sentence", "cell", "figure", Bound("<=" if comparison == "<=" else ">=", 10.0, "s"))


@pytest.mark.parametrize(
    ("comparison", "low", "high", "word"),
    [
        ("<=", 8.0, 10.0, Word.REACHED),
        ("<=", 8.0, 10.1, Word.OPEN),
        ("<=", 10.0, 12.0, Word.OPEN),
        ("<=", 10.1, 12.0, Word.MISSED),
        ("<=", -math.inf, math.inf, Word.OPEN),
        ("<=", math.inf, math.inf, Word.MISSED),
        (">=", 10.0, 12.0, Word.REACHED),
        (">=", 9.9, 12.0, Word.OPEN),
        (">=", 8.0, 9.9, Word.MISSED),
    ],
)
def test_a_goal_is_reached_only_by_the_far_bound(comparison: str, low: float, high: float, word: Word) -> None:
    assert Judged(goal(comparison), Figure((low + high) / 2, low, high, 5)).word is word


def test_what_was_not_run_is_open() -> None:
    assert [item.word for item in judge([goal("<=")], {})] == [Word.OPEN]
    assert judge([goal("<=")], {"cell": Result("cell", 1.0, {})})[0].word is Word.OPEN
    found = judge([goal("<=")], {"cell": Result("cell", 1.0, {"figure": Figure(1, 1, 1, 1)})})
    assert found[0].word is Word.REACHED


def test_every_goal_has_its_cell_and_is_written_once() -> None:
    cells = {cell.id for cell in all_cells()}
    assert {goal.cell for goal in goals()} <= cells
    lines = [(goal.id, goal.sentence, goal.bound.comparison) for goal in goals()]
    assert len(lines) == len(set(lines))


def test_seeds_differ() -> None:
    seeds = [cell.seed for cell in all_cells()]
    assert len(set(seeds)) == len(seeds)
