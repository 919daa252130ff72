from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from sre.dr import checklist

FACTS: dict[str, Any] = {
    "manifest": {"wrong": [], "files": 12},
    "place": {"found": [], "reaches": [], "looked": 9},
    "reached": {
        "marker": "set-1", "words": 'recovery stopping at restore point "set-1", time 2026-11-24', "last_commit": 1.0,
        "system": "7", "of_system": "7", "timeline": 2, "from_timeline": 1,
    },
    "physical": {"relations": [], "pages": []},
    "tables": {"drills.public.history": {"expected": {"rows": 9, "checksum": "a"}, "restored": {"rows": 9, "checksum": "a"}}},
    "objects": {"expected": 12, "lost": [], "altered": [], "invented": []},
    "structure": {"wrong": [], "databases": 4, "roles": 8, "sequences": 3},
    "registry": {"wrong": [], "loaded": ["digits-resnet8 1"], "files": 5},
    "prediction": {"recorded": "3f800000", "repeated": "3f800000", "why": "", "logged": True},
    "time": {"rto": 21.0, "rto_bound": 3600.0, "rpo": 4.0, "rpo_bound": 86_400.0, "gaps": 0},
}  # fmt: skip


def test_a_whole_restore_passes_nine_points() -> None:
    points = checklist.points(FACTS)
    assert [point.number for point in points] == list(range(1, 10))
    assert len(points) == checklist.COUNT
    assert all(point.passed for point in points), points
    assert str(points[8]) == "9 time: passed, RTO 21.0 s, within our aim of 300 s; RPO 4.0 s, within our aim of 60 s"


@pytest.mark.parametrize(
    ("fact", "changes", "number", "words"),
    [
        ("manifest", {"wrong": ["object ml-datasets/a.png is altered"]}, 1, "a.png is altered"),
        ("place", {"found": ["data"]}, 2, "data was there before"),
        ("place", {"reaches": ["python has mlflow of the running system in ML_MLFLOW_URL"]}, 2, "ML_MLFLOW_URL"),
        ("place", {"looked": 0}, 2, "no process to look at"),
        ("reached", {"words": 'recovery stopping at restore point "set-2"'}, 3, "set-1 was asked for"),
        ("reached", {"words": ""}, 3, "the server says: nothing"),
        ("reached", {"system": "8"}, 3, "copy of database system 8"),
        ("reached", {"timeline": 1}, 3, "timeline 1"),
        ("physical", {"relations": ["pages predictions, block 3: wrong"]}, 4, "block 3"),
        ("physical", {"pages": ["pages base/5/1, block 0: wrong"]}, 4, "base/5/1"),
        ("tables", {"drills.public.history": {"expected": None, "restored": None}}, 5, "invented"),
        ("objects", {"lost": ["ml-datasets/a.png"]}, 5, "a.png lost"),
        ("objects", {"altered": ["ml-datasets/a.png"]}, 5, "a.png altered"),
        ("objects", {"invented": ["ml-datasets/a.png"]}, 5, "a.png invented"),
        ("objects", {"expected": 0}, 5, "nothing to compare"),
        ("structure", {"wrong": ["role lost: mlflow"]}, 6, "role lost"),
        ("structure", {"databases": 0}, 6, "no databases to compare"),
        ("registry", {"wrong": ["model m has aliases none"]}, 7, "aliases none"),
        ("registry", {"loaded": []}, 7, "no model of an alias"),
        ("registry", {"files": 0}, 7, "no model of an alias"),
        ("prediction", {"repeated": "3f800001"}, 8, "other bits"),
        ("prediction", {"repeated": None, "why": "answered 503"}, 8, "answered 503"),
        ("prediction", {"recorded": None, "repeated": None, "why": "not in the log"}, 8, "not in the log"),
        ("prediction", {"logged": False}, 8, "never reached the log"),
        ("time", {"rto": None}, 9, "RTO was not measured"),
        ("time", {"rpo": None}, 9, "RPO was not measured"),
        ("time", {"rto": 3600.0}, 9, "RTO 60.0 min of 1 h"),
        ("time", {"rpo": 86_400.0}, 9, "RPO"),
        ("time", {"gaps": 2}, 9, "2 stamped markers"),
    ],
)
def test_one_damage_fails_one_point(fact: str, changes: dict[str, Any], number: int, words: str) -> None:
    points = checklist.points({**FACTS, fact: {**deepcopy(FACTS[fact]), **changes}})
    failed = [point for point in points if not point.passed]
    assert [point.number for point in failed] == [number]
    assert words in failed[0].words


@pytest.mark.parametrize("fact", FACTS)
def test_what_was_not_looked_at_has_not_passed(fact: str) -> None:
    points = checklist.points({name: value for name, value in FACTS.items() if name != fact})
    failed = [point for point in points if not point.passed]
    assert len(failed) == 1
    assert failed[0].words == f"{fact} not looked at"


@pytest.mark.parametrize("fact", FACTS)
def test_what_could_not_be_looked_at_has_not_passed(fact: str) -> None:
    points = checklist.points({**FACTS, fact: {"trouble": "it answers nothing"}})
    failed = [point for point in points if not point.passed]
    assert [point.words for point in failed] == ["could not be looked at: it answers nothing"]


def test_nothing_at_all_fails_every_point() -> None:
    assert not any(point.passed for point in checklist.points({}))


def test_no_table_at_all_is_nothing_to_compare() -> None:
    assert not checklist.points({**FACTS, "tables": {}})[4].passed


def test_of_many_damages_the_first_are_named() -> None:
    words = checklist.points({**FACTS, "manifest": {"wrong": list("abcde"), "files": 5}})[0].words
    assert words == "a; b; c, and 2 more"
