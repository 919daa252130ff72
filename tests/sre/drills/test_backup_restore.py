from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.backup_restore import BackupRestore
from sre.drills.base import Case, Context, Options
from sre.errors import CannotRun, ExitCode, StepFailed
from sre.readings import LoadPlan
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills

FACTS: dict[str, Any] = {
    "tables": {"predictions": {"before": 900, "restored": 905, "lost": 0, "invented": 0}},
    "objects": {"before": 12, "lost": [], "altered": []},
    "prediction": {"recorded": "3f800000", "repeated": "3f800000", "why": ""},
    "restored_in": 21.0,
    "disaster_at": 1000.0,
    "newest_at": 999.0,
}


@pytest.fixture
def case(make_case: Callable[..., Case]) -> Callable[..., Case]:
    loaded = make_case(stop_after=15.0)

    def make(**changes: Any) -> Case:
        return Case({**loaded.facts, **FACTS, **changes}, loaded.recording, loaded.samples)

    return make


def test_a_whole_restore_keeps_all_three_promises(case: Callable[..., Case]) -> None:
    judged = BackupRestore().judge(case())
    assert [verdict.promise for verdict in judged.verdicts] == list(BackupRestore.promises)
    assert {verdict.outcome for verdict in judged.verdicts} == {Outcome.KEPT}
    assert judged.findings == ()


@pytest.mark.parametrize(
    ("changes", "promise", "outcome", "words"),
    [
        ({"tables": {"predictions": {"before": 9, "restored": 8, "lost": 1, "invented": 0}}}, 0, Outcome.BROKEN, "1 rows lost"),
        ({"tables": {"predictions": {"before": 9, "restored": 10, "lost": 0, "invented": 1}}}, 0, Outcome.BROKEN, "invented"),
        ({"tables": {}}, 0, Outcome.INCONCLUSIVE, "nothing to compare"),
        ({"objects": {"before": 0, "lost": [], "altered": []}}, 0, Outcome.INCONCLUSIVE, "nothing to compare"),
        ({"objects": {"before": 2, "lost": ["a.png"], "altered": []}}, 0, Outcome.BROKEN, "a.png lost"),
        ({"objects": {"before": 2, "lost": [], "altered": ["b.png"]}}, 0, Outcome.BROKEN, "b.png altered"),
        ({"prediction": {"recorded": "00", "repeated": "01", "why": ""}}, 0, Outcome.BROKEN, "has other bits"),
        ({"prediction": {"recorded": None, "repeated": None, "why": "not in the log"}}, 0, Outcome.BROKEN, "not in the log"),
        ({"prediction": {"recorded": "00", "repeated": None, "why": "answered 503"}}, 0, Outcome.BROKEN, "answered 503"),
        ({"restored_in": 3600.0}, 1, Outcome.BROKEN, "a restored prediction"),
        ({"newest_at": None}, 2, Outcome.BROKEN, "no recorded prediction came back"),
        ({"newest_at": -90_000.0}, 2, Outcome.BROKEN, "older than the loss"),
        ({"server_counts": None}, 0, Outcome.INCONCLUSIVE, "counters could not be read"),
    ],
)
def test_sabotage_is_seen(case: Callable[..., Case], changes: dict[str, Any], promise: int, outcome: Outcome, words: str) -> None:
    judged = BackupRestore().judge(case(**changes)).verdicts[promise]
    assert judged.outcome is outcome
    assert words in judged.why


def test_a_backup_that_was_never_restored_has_no_verdict(make_case: Callable[..., Case]) -> None:
    assert BackupRestore().judge(make_case(stop_after=15.0)).verdicts == ()


def test_a_few_users_write_rows_meanwhile() -> None:
    assert BackupRestore().plan(Options()) == LoadPlan(rate=50.0, seconds=1800.0, seed=1)


def test_a_target_without_backups_cannot_run_it(run_drills: RunDrills) -> None:
    ran = run_drills(BackupRestore())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "target memory cannot do backups" in ran.step("preflight").detail
    assert run.verify(ran.folder, ran.key) == []


def test_a_target_that_only_claims_to_have_backups_cannot_run_it_either(make_context: Callable[..., Context]) -> None:
    context = make_context("backup-restore")
    for step in (BackupRestore().inject, BackupRestore().prove_injected, BackupRestore().recover):
        with pytest.raises((CannotRun, StepFailed), match="target memory cannot be restored beside itself"):
            step(context)
