from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.chaos import actions, attach
from sre.errors import CannotRun, StepFailed, UsageError
from sre.faults.ledger import Ledger
from sre.targets.memory import Behaviour, MemoryTarget
from tests.sre.cluster import ClusterTarget

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


def test_a_database_fault_finds_whom_it_hits_by_the_role(ledger: Ledger) -> None:
    cluster = ClusterTarget()
    attach.bind(cluster, ledger)
    assert actions.break_database("freeze", "primary") == {
        "fault": "SIGSTOP of the database server postgres-1",
        "at": cluster.clock.now(),
        "undo": "let postgres-1 run again",
    }
    assert cluster.cluster.hurt == {"postgres-1": {"freeze"}}
    assert actions.undo_all() == ["let postgres-1 run again"]


def test_a_database_fault_needs_a_cluster_and_plans_nothing_without_one(ledger: Ledger) -> None:
    with pytest.raises(CannotRun, match="memory target has no database cluster"):
        actions.break_database("crash", "primary")
    assert ledger.entries() == []


def test_a_pod_is_removed_in_one_of_two_ways(target: MemoryTarget, ledger: Ledger) -> None:
    assert actions.remove_pod("serving-2", "delete")["fault"] == "deletion of the pod of serving-2"
    assert target.replicas()[1].identity == ""
    with pytest.raises(UsageError, match="a pod cannot be removed by 'burn'; there are delete, evict"):
        actions.remove_pod("serving-1", "burn")  # type: ignore[arg-type]
    assert len(ledger.pending()) == 1


def test_several_replicas_are_killed_and_none_when_one_is_unknown(target: MemoryTarget, ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="'serving-9' does not exist"):
        actions.kill_replica("serving-1,serving-9")
    assert ledger.entries() == []
    assert actions.kill_replica("serving-1,serving-3")["fault"] == "SIGKILL serving-1 and serving-3"
    assert [bool(replica.identity) for replica in target.replicas()] == [False, True, False]


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


def test_a_node_is_lost_by_its_name(target: MemoryTarget, ledger: Ledger) -> None:
    assert actions.lose_node("drain", "node-2") == {
        "fault": "drain of node-2",
        "at": target.clock.now(),
        "undo": "let node-2 take pods again",
    }
    assert not target.nodes.all()[1].open
    assert actions.undo_all() == ["let node-2 take pods again"]
    assert ledger.pending() == []


def test_an_unknown_node_gets_no_undo_that_could_never_succeed(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="node 'node-9' does not exist"):
        actions.lose_node("drain", "node-9")
    assert ledger.entries() == []


def test_every_replica_is_replaced(target: MemoryTarget, ledger: Ledger) -> None:
    assert actions.roll_replicas()["fault"] == "rolling update of every replica"
    assert [entry.undo.action for entry in ledger.pending()] == ["await-replicas"]
    target.clock.sleep(20.0)
    assert [replica.restarts for replica in target.replicas()] == [1, 1, 1]
