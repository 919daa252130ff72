from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import Case, Context, Options
from sre.drills.training import Training
from sre.drills.world import World
from sre.errors import CannotRun, ExitCode
from sre.evidence.journal import Journal
from sre.faults.ledger import Ledger
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills


def facts(right: int = 250, wrong: int = 3, **changes: Any) -> dict[str, Any]:
    answers = [["a.png", "7", 200, "7"]] * right + [["b.png", "7", 200, "1"]] * wrong
    return {"train_exit": 0, "registered": "3", "served": ["3"], "answers": answers, **changes}


def test_a_good_model_is_kept() -> None:
    judged = Training().judge(Case(facts(), None, None))
    (verdict,) = judged.verdicts
    assert (verdict.promise, verdict.outcome) == ("model-quality", Outcome.KEPT)
    assert verdict.measured == pytest.approx(250 / 253)
    assert judged.findings == ()


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        (facts(right=100, wrong=153), Outcome.BROKEN),
        (facts(right=218, wrong=35), Outcome.INCONCLUSIVE),
        (facts(right=40, wrong=0), Outcome.INCONCLUSIVE),
        (facts(answers=[]), Outcome.INCONCLUSIVE),
        (facts(answers=[["a.png", "7", 503, ""]] * 250), Outcome.BROKEN),
        (facts(answers=[["a.png", "7", 503, "7"]] * 250), Outcome.BROKEN),
    ],
    ids=["wrong answers", "at the edge", "too few images", "no image", "no answers", "errors that name the right class"],
)
def test_sabotage_is_seen(changed: dict[str, Any], outcome: Outcome) -> None:
    (verdict,) = Training().judge(Case(changed, None, None)).verdicts
    assert verdict.outcome is outcome


def test_a_training_that_failed_and_an_old_model_that_serves_are_findings() -> None:
    judged = Training().judge(Case(facts(train_exit=1, served=["2", "3"]), None, None))
    assert judged.findings[0].startswith("the training ended with 1 and promoted nothing")
    assert "the registry names version 3, version 2, 3 answered" in judged.findings[1]


def test_without_answers_there_is_no_verdict() -> None:
    assert Training().judge(Case({"train_exit": 0}, None, None)).verdicts == ()


def test_no_load_is_needed() -> None:
    assert Training().plan(Options()) is None


def test_a_target_that_cannot_train_cannot_run_it(run_drills: RunDrills) -> None:
    ran = run_drills(Training())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "target memory cannot do training" in ran.step("preflight").detail
    assert run.verify(ran.folder, ran.key) == []


def test_a_target_that_only_claims_to_train_cannot_run_it_either(make_context: Callable[..., Context]) -> None:
    context = make_context("training")
    for step in (Training().inject, Training().prove_injected, Training().recover):
        with pytest.raises(CannotRun, match="target memory cannot train"):
            step(context)


@pytest.mark.local
def test_users_judge_the_model_that_the_registry_names(system: LocalTarget, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", system.clock)
    world = World(system.endpoints, float(SCRAPE_INTERVAL_S), float(ANSWER_TIMEOUT_S))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    context = Context("training", system, world, tmp_path, journal, ledger, Options(), lambda _: None)
    assert "has the alias production" in Training().prove_injected(context)
    assert "answers right" in Training().recover(context)
    judged = Training().judge(Case({"train_exit": 0, **context.facts}, None, None))
    assert [verdict.outcome for verdict in judged.verdicts] == [Outcome.KEPT]
    assert judged.findings == ()
