"""The procedure on the simulated cluster: what it does in which order, what it refuses, and how it is taken up again."""

from __future__ import annotations

from typing import Any

import pytest

from sre.dr import rebuild, velero
from sre.dr.velero import Watch
from sre.errors import CannotRun, StepFailed, UndoIncomplete
from sre.faults.ledger import ACTIONS
from sre.targets.backups import NAMESPACES
from sre.targets.memory import Behaviour, MemoryTarget

BACKUP = "b"


def lost(**behaviour: Any) -> MemoryTarget:
    """A system that was backed up, and whose cluster was destroyed."""
    target = MemoryTarget(Behaviour(**behaviour))
    velero.back_up(Watch(target.volumes, target.clock, 60.0, _silent), BACKUP, NAMESPACES)
    target.site.destroy()
    return target


def _silent(*_: Any, **__: Any) -> None:
    return


def test_a_lost_cluster_runs_again_with_the_newest_backup() -> None:
    target, facts, said = lost(), dict[str, Any](), list[str]()
    rebuild.rebuild(target, "", said.append, facts.update)
    assert target.site.missing() == ""
    assert target.site.identity() == "cluster-2"
    assert facts["backup"] == BACKUP
    assert facts["brought"]["restore"]["status"]["phase"] == "Completed"
    assert facts["phases"]["an empty cluster"] == 40.0
    assert facts["phases"]["its backups known"] == pytest.approx(60.0, abs=1.1)
    assert [line for line in said if line.startswith("rebuilding")] == [f"rebuilding: {phase}" for phase in facts["phases"]]


def test_a_cluster_that_holds_a_system_is_left_as_it_is() -> None:
    target = MemoryTarget()
    with pytest.raises(CannotRun, match=r"the cluster holds namespace ml-system, namespace data, .*; end that system first"):
        rebuild.rebuild(target, "", _silent, _silent)
    assert target.site.missing() == ""


def test_the_cluster_that_was_never_lost_is_not_touched() -> None:
    target = MemoryTarget()
    with pytest.raises(CannotRun, match="was never lost"):
        rebuild.rebuild(target, "", _silent, _silent, lost=target.site.identity())
    assert target.site.missing() == ""


@pytest.mark.parametrize("backup", ["", BACKUP])
def test_a_backup_that_is_not_whole_is_not_restored(backup: str) -> None:
    target = lost(backup_phase="PartiallyFailed")
    words = "backup b is PartiallyFailed, so it is not whole" if backup else "1 backups are known, a complete one of the system"
    with pytest.raises(CannotRun, match=words):
        rebuild.rebuild(target, backup, _silent, _silent)
    assert target.site.holds() == ""


def test_a_store_without_that_backup_is_waited_for_and_told() -> None:
    with pytest.raises(StepFailed, match=r"not within 300 s \(last seen: 1 backups are known, other is not\)"):
        rebuild.rebuild(lost(), "other", _silent, _silent)


def test_the_newest_complete_backup_of_the_whole_system_is_chosen() -> None:
    def backup(name: str, born: str, phase: str = "Completed", namespaces: Any = NAMESPACES) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "creationTimestamp": born}, "spec": {"includedNamespaces": list(namespaces)},
            "status": {"phase": phase},
        }  # fmt: skip

    old = backup("old", "2026-11-01T00:00:00Z")
    young = backup("young", "2026-11-02T00:00:00Z")
    others = [
        backup("half", "2026-11-03T00:00:00Z", "Failed"),
        backup("part", "2026-11-04T00:00:00Z", namespaces=["data"]),
    ]
    assert rebuild.newest([young, old, *others, {"metadata": {"name": "new"}, "spec": {}}]) == young
    assert rebuild.newest(others) is None


def test_the_undo_makes_again_what_was_lost_and_then_leaves_it() -> None:
    target = lost()
    arguments = {"identity": "cluster-1", "backup": BACKUP}
    ACTIONS[rebuild.REBUILD](target, arguments)
    assert target.site.missing() == ""
    made = list(target.site.made)
    ACTIONS[rebuild.REBUILD](target, arguments)
    assert target.site.made == made


def test_the_undo_begins_anew_where_a_rebuild_broke_off() -> None:
    target = lost()
    target.site.create()
    target.volumes.begin("data")
    ACTIONS[rebuild.REBUILD](target, {"identity": "cluster-1", "backup": BACKUP})
    assert target.site.missing() == ""
    assert target.volumes.files("data") != {}


def test_the_undo_of_what_never_happened_only_waits() -> None:
    target = MemoryTarget()
    ACTIONS[rebuild.REBUILD](target, {"identity": "cluster-1", "backup": BACKUP})
    assert target.site.made == []


def test_an_undo_that_cannot_is_told() -> None:
    target = lost()
    target.behaviour.system_s = 1e6
    with pytest.raises(StepFailed, match=r"the database not within 1800 s \(last seen: data/postgres: 0 of 3 ready\)"):
        ACTIONS[rebuild.REBUILD](target, {"identity": "cluster-1", "backup": BACKUP})
    with pytest.raises(UndoIncomplete, match="the system not within"):
        ACTIONS[rebuild.REBUILD](target, {"identity": "cluster-2", "backup": BACKUP})


def test_other_keys_than_this_machines_are_told() -> None:
    with pytest.raises(StepFailed, match="the certificate authority is another one than this machine has"):
        rebuild.rebuild(lost(rebuild_keys=False), "", _silent, _silent)
