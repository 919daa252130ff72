"""The whole drill on the simulated Velero: kept, and broken in every way in which it can disappoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import Case, Context
from sre.drills.velero import NAMESPACES, VeleroRestore
from sre.errors import ExitCode
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.memory import Behaviour, MemoryTarget
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills

BACKUP, RESTORE, TIME = VeleroRestore.promises


def test_everything_comes_back_and_nothing_is_left(run_drills: RunDrills) -> None:
    ran = run_drills(VeleroRestore())
    assert ran.record.exit_code == ExitCode.KEPT
    assert [verdict.promise for verdict in ran.drill.verdicts] == list(VeleroRestore.promises)
    assert ran.drill.findings == ()
    assert ran.verdict(TIME).measured == pytest.approx(8.0, abs=1.0)
    assert "keeper-0 from node1 to node2, keeper-1 from node2 to node1" in ran.step("recover").detail
    assert ran.pending() == 0
    assert ran.target.volumes.left("drill", NAMESPACES) == ""
    assert ran.target.volumes.records("backups") == ran.target.volumes.records("restores") == []
    assert run.verify(ran.folder, ran.key) == []


@pytest.mark.parametrize(
    ("behaviour", "promise", "words"),
    [
        ({"backup_skips": True}, BACKUP, "volume-missing: velero-drill/data-keeper-1 has no pod volume backup"),
        ({"backup_skips": True}, RESTORE, "volume-empty: data-keeper-1 is empty; it held 3 files"),
        ({"archive_loses": True}, BACKUP, "item-missing: configmaps/velero-drill/keeper lives and is not in the archive"),
        ({"schedules_paused": True}, BACKUP, "schedule-paused: ml-daily is paused"),
        ({"store": False}, BACKUP, "location-unavailable: default is Unavailable: 403 InvalidAccessKeyId"),
        ({"store": False}, BACKUP, "is FailedValidation"),
        ({"backup_phase": "Failed"}, BACKUP, "archive-unreadable"),
        ({"backup_phase": "PartiallyFailed"}, BACKUP, "is PartiallyFailed"),
        ({"backup_phase": "InProgress"}, BACKUP, "not within 300 s (last seen: InProgress"),
        ({"restore_phase": "PartiallyFailed"}, RESTORE, "is PartiallyFailed"),
        ({"restore_phase": "PartiallyFailed"}, RESTORE, "claim-lost: data-keeper-0 holds 3 files"),
        ({"restore_alters": True}, RESTORE, "file-altered: data-keeper-0 ./rows was"),
        ({"restore_moves": False}, RESTORE, "pod-same-node: keeper-0 came back on node1"),
        ({"restore_s": 1e6}, RESTORE, "restore-late: restore the end of restore"),
    ],
)
def test_a_system_that_disappoints_breaks_its_promise(
    run_drills: RunDrills, behaviour: dict[str, Any], promise: str, words: str
) -> None:
    ran = run_drills(VeleroRestore(), behaviour=Behaviour(**behaviour))
    assert ran.verdict(promise).outcome is Outcome.BROKEN
    assert words in ran.text
    assert ran.record.exit_code == ExitCode.BROKEN
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


def test_without_a_backup_nothing_is_said_of_a_restore(run_drills: RunDrills) -> None:
    ran = run_drills(VeleroRestore(), behaviour=Behaviour(backup_phase="Failed"))
    assert ran.verdict(RESTORE).outcome is Outcome.INCONCLUSIVE
    assert TIME not in [verdict.promise for verdict in ran.drill.verdicts]
    assert "there is no backup to restore" in ran.step("recover").detail


def test_an_altered_file_leaves_no_time(run_drills: RunDrills) -> None:
    ran = run_drills(VeleroRestore(), behaviour=Behaviour(restore_alters=True))
    assert ran.verdict(TIME).outcome is Outcome.INCONCLUSIVE


def test_without_a_server_it_cannot_run(run_drills: RunDrills) -> None:
    ran = run_drills(VeleroRestore(), behaviour=Behaviour(velero=False))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "does not answer `velero version`" in ran.step("preflight").detail
    assert ran.target.volumes.left("drill", NAMESPACES) == ""


def test_leftovers_of_another_are_not_touched(run_drills: RunDrills) -> None:
    target = MemoryTarget()
    target.volumes.begin(NAMESPACES[0])
    ran = run_drills(VeleroRestore(), target=target)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "(last seen: namespace velero-drill); run `sre undo` or delete them" in ran.step("preflight").detail
    assert target.volumes.left("drill", NAMESPACES) == "namespace velero-drill"


def test_a_target_without_the_capability_cannot_run_it(run_drills: RunDrills) -> None:
    class Bare(MemoryTarget):
        capabilities = MemoryTarget.capabilities - VeleroRestore.needs

    ran = run_drills(VeleroRestore(), target=Bare())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "target memory cannot do volume-backups, which velero-restore needs" in ran.step("preflight").detail


def test_the_undo_is_on_disk_before_anything_is_made(make_context: Callable[..., Context]) -> None:
    context = make_context("velero-restore")
    context.folder.mkdir(parents=True)
    drill = VeleroRestore()
    drill.preflight(context)
    drill.steady(context)
    (entry,) = Ledger(context.folder.parents[1] / LEDGER_NAME).pending()
    assert entry.undo.arguments["namespaces"] == "velero-drill,velero-drill-restored"
    assert context.target.volumes.left("", NAMESPACES) == "namespace velero-drill"
    context.ledger.replay(context.target)
    assert context.target.volumes.left("", NAMESPACES) == ""


def test_a_case_without_a_backup_is_no_pass() -> None:
    facts: dict[str, Any] = {"location": [], "schedules": [], "backups": [], "scheduled": [], "looked_at": 0.0}
    judged = VeleroRestore().judge(Case(facts, None, None))
    assert [verdict.outcome for verdict in judged.verdicts] == [Outcome.BROKEN, Outcome.INCONCLUSIVE]
