from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.chaos import actions
from sre.errors import StepFailed, UsageError
from sre.faults.ledger import Ledger
from sre.targets.memory import Behaviour, MemoryTarget

pytestmark = pytest.mark.usefixtures("bound")


def test_a_kill_says_what_it_did_when_and_how_it_is_undone(target: MemoryTarget, ledger: Ledger) -> None:
    at = target.clock.now()
    assert actions.kill_replica("serving-2") == {
        "fault": "SIGKILL serving-2",
        "at": at,
        "undo": "wait until serving-2 is ready again",
    }
    assert target.replicas()[1].identity == ""
    assert [entry.undo.action for entry in ledger.pending()] == ["await-ready"]


def test_a_pause_says_what_it_did_when_and_how_it_is_undone(target: MemoryTarget, ledger: Ledger) -> None:
    assert actions.pause_replica("serving-1")["fault"] == "SIGSTOP serving-1"
    assert not target.replicas()[0].ready
    assert [entry.undo.sentence for entry in ledger.pending()] == ["resume serving-1"]


def test_the_undo_is_planned_before_the_fault(target: MemoryTarget, ledger: Ledger) -> None:
    target.kill("serving-2")
    with pytest.raises(StepFailed, match="serving-2 has no process"):
        actions.pause_replica("serving-2")
    assert len(ledger.pending()) == 1


@pytest.mark.parametrize("action", [actions.kill_replica, actions.pause_replica])
def test_an_unknown_replica_gets_no_undo_that_could_never_succeed(ledger: Ledger, action: Callable[[str], object]) -> None:
    with pytest.raises(UsageError, match="'serving-9' does not exist; there are serving-1, serving-2, serving-3"):
        action("serving-9")
    assert ledger.entries() == []


def test_everything_is_undone(target: MemoryTarget, ledger: Ledger) -> None:
    actions.pause_replica("serving-1")
    actions.kill_replica("serving-3")
    assert actions.undo_all() == ["wait until serving-3 is ready again", "resume serving-1"]
    assert all(replica.ready for replica in target.replicas())
    assert ledger.pending() == []
    assert actions.undo_all() == []


def test_a_fault_that_changes_nothing_still_reports_so_somebody_else_must_see_it(target: MemoryTarget) -> None:
    target.behaviour = Behaviour(faults_work=False)
    assert actions.kill_replica("serving-2")["fault"] == "SIGKILL serving-2"
    assert target.replicas()[1].ready
