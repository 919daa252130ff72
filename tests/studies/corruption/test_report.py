from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.studies.corruption.clean import Look
from tests.studies.corruption.kinds import Outcome
from tests.studies.corruption.report import document, sentences, show_all

NAMED = Outcome("object", "flipped bit", alarm=True, unnamed=[], words="object a/b is altered")
VAGUE = Outcome("object", "truncated", alarm=True, unnamed=["a/b"], words="something is wrong")
QUIET = Outcome("object", "missing", alarm=False, unnamed=["a/b"], words="")
CLEAN = Look("20261128T020000Z-full", "list", alarm=False, words="")
ALARM = Look("20261128T020000Z-full", "list", alarm=True, words="object a/b is altered")


@pytest.mark.parametrize(
    ("outcomes", "looks", "met"),
    [
        ([NAMED] * 25, [CLEAN] * 50, (True, True)),
        ([NAMED] * 24, [CLEAN] * 49, (False, False)),
        ([NAMED] * 25 + [VAGUE], [CLEAN] * 50 + [ALARM], (False, False)),
        ([NAMED] * 25 + [QUIET], [CLEAN] * 50, (False, True)),
        ([], [], (False, False)),
    ],
)
def test_one_kind_that_is_not_named_or_one_alarm_misses_the_goal(
    outcomes: list[Outcome], looks: list[Look], met: tuple[bool, bool]
) -> None:
    assert tuple(found for found, _ in sentences(outcomes, looks)) == met


def test_the_bound_of_fifty_clean_runs_is_told() -> None:
    assert sentences([], [CLEAN] * 50)[1][1].startswith("0 false alarms in 50 clean runs, at most 5.82 % with 95 % confidence")


def test_everything_is_shown() -> None:
    text = io.StringIO()
    show_all(Console(file=text, width=200), [NAMED, VAGUE, QUIET], [CLEAN, ALARM])
    shown = text.getvalue()
    assert "object a/b is altered" in shown
    assert "lacks a/b" in shown
    assert "NOT FOUND" in shown
    assert "false alarm after 20261128T020000Z-full at list: object a/b is altered" in shown
    assert "MISSED: 1 of 3 kinds" in shown


def test_the_document_holds_every_word() -> None:
    found = document([VAGUE], [CLEAN])
    assert found["kinds"] == [
        {"part": "object", "name": "truncated", "alarm": True, "unnamed": ["a/b"], "words": "something is wrong", "found": False}
    ]
    assert found["clean"] == [{"after": "20261128T020000Z-full", "at": "list", "alarm": False, "words": ""}]
    assert [goal["met"] for goal in found["goals"]] == [False, False]
