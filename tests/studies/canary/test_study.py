"""The whole study on few runs, once, and what must be plain to see even so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.studies.canary import report
from tests.studies.canary.cells import SHORT, Cell, Scale
from tests.studies.canary.figures import Figure, exact
from tests.studies.canary.goals import Judged, Word, goals, judge
from tests.studies.canary.journal import Result, StudyJournal
from tests.studies.canary.study import all_cells, run, settings


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Result]:
    journal = StudyJournal(tmp_path_factory.mktemp("study") / "study.jsonl", settings(SHORT))
    return run(journal, all_cells(), SHORT, lambda _said: None)


@pytest.fixture(scope="module")
def judged(results: Mapping[str, Result]) -> list[Judged]:
    return judge(goals(), results)


def value(results: Mapping[str, Result], cell: str, figure: str) -> float:
    return results[cell].figures[figure].value


def test_no_goal_is_missed(judged: list[Judged]) -> None:
    assert [item.goal.sentence for item in judged if item.word is Word.MISSED] == []
    assert [item.goal.sentence for item in judged if item.found is None] == []


def test_what_few_runs_can_show_is_shown(judged: list[Judged]) -> None:
    reached = {(item.goal.id, item.goal.sentence) for item in judged if item.word is Word.REACHED}
    for line in (
        ("C4", "x5 errors found, canary 10 % of 1000/s, control the rest"),
        ("C4", "1 % of requests take about 1 s, found"),
        ("C5", "a healthy canary promotes at margin 2x"),
        ("C9", "10 % weight off by a fifth, found in 10,000 requests"),
        ("C11", "a 5-point shift of a class found, equal arms"),
        ("C13", "users' failing series promoted by our gate"),
        ("C13", "head to head, quiet, x4: caught more often than by Kayenta"),
        ("C13", "whole gate: decisions unlike the study's"),
    ):
        assert line in reached


def test_counting_bursts_one_by_one_is_what_raises_false_alarms(results: Mapping[str, Result]) -> None:
    assert value(results, "bursts-aa-clusters of 20", "counts alone") > 0.4
    assert value(results, "bursts-aa-clusters of 20", "false rollback") < 0.03


def test_testing_each_metric_by_itself_is_what_raises_false_alarms(results: Mapping[str, Result]) -> None:
    assert value(results, "family", "each by itself") >= 0.03


def test_evidence_that_is_never_begun_again_is_slow_late(results: Mapping[str, Result]) -> None:
    assert value(results, "detect-late", "once, s") > 2 * value(results, "detect-late", "restarting, s")


def test_fixed_thresholds_promote_what_is_twice_as_bad(results: Mapping[str, Result]) -> None:
    assert value(results, "head-x2", "Argo, 5 %: promote") == value(results, "head-x2", "Flagger, 1 %: promote") == 1.0
    assert value(results, "head-x2", "ours: rollback") > 0.9


def test_the_report_tells_it_all(judged: list[Judged], results: Mapping[str, Result]) -> None:
    told = report.text(judged, results)
    assert told.endswith(f"{report.sentence(judged)}\n")
    document = json.loads(json.dumps(report.document(judged, results, settings(SHORT)), allow_nan=False))
    assert document["schema"] == report.SCHEMA
    assert len(document["goals"]) == len(goals())
    page = report.html(judged, results, settings(SHORT))
    assert page.count("<svg") == len(report.plots(results)) > 10
    assert "http" not in page.replace("http-equiv", "")


def test_a_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    ran: list[str] = []

    def cell(name: str) -> Cell:
        def simulate(_scale: Scale, _seed: int) -> dict[str, Figure]:
            ran.append(name)
            if len(ran) == 2:
                raise RuntimeError("the power failed")
            return {"x": exact(1.0)}

        return Cell(name, simulate)

    cells = [cell(name) for name in "abc"]
    with pytest.raises(RuntimeError):
        run(StudyJournal(tmp_path / "study.jsonl", {}), cells, SHORT, lambda _said: None)
    found = run(StudyJournal(tmp_path / "study.jsonl", {}), cells, SHORT, lambda _said: None)
    assert ran == ["a", "b", "b", "c"]
    assert list(found) == ["a", "b", "c"]
