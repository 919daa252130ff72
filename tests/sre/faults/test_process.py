from __future__ import annotations

from sre.faults.base import Fault, Undo
from sre.faults.ledger import ACTIONS
from sre.faults.process import KillReplicas, PauseReplicas, RemovePod, RollOut
from sre.targets.memory import MemoryTarget


def test_a_kill_says_what_it_does_and_that_the_platform_repairs_it() -> None:
    target = MemoryTarget()
    fault: Fault = KillReplicas(target, ("serving-2",))
    assert fault.name == "SIGKILL serving-2"
    assert fault.undo == Undo("await-ready", {"replica": "serving-2"}, "wait until serving-2 is ready again")
    assert target.replicas()[1].identity
    fault.inject()
    assert target.replicas()[1].identity == ""


def test_several_are_killed_by_one_fault() -> None:
    target = MemoryTarget()
    fault = KillReplicas(target, ("serving-1", "serving-3"))
    assert fault.name == "SIGKILL serving-1 and serving-3"
    assert fault.undo == Undo("await-replicas", {}, "wait until every replica is ready")
    fault.inject()
    assert [bool(replica.identity) for replica in target.replicas()] == [False, True, False]


def test_a_pod_that_is_removed_says_how() -> None:
    target = MemoryTarget()
    fault: Fault = RemovePod(target, "serving-2", "evict")
    assert fault.name == "eviction of the pod of serving-2"
    assert fault.undo == Undo("await-ready", {"replica": "serving-2"}, "wait until serving-2 is ready again")
    fault.inject()
    assert target.replicas()[1].identity == ""


def test_a_pause_says_what_it_does_and_how_it_ends() -> None:
    target = MemoryTarget()
    fault: Fault = PauseReplicas(target, ("serving-2",))
    assert fault.name == "SIGSTOP serving-2"
    assert fault.undo == Undo("resume", {"replica": "serving-2"}, "resume serving-2")
    assert target.replicas()[1].ready
    fault.inject()
    assert [replica.ready for replica in target.replicas()] == [True, False, True]


def test_every_undo_is_one_that_the_ledger_knows() -> None:
    target = MemoryTarget()
    faults: tuple[Fault, ...] = (
        KillReplicas(target, ("serving-1",)), KillReplicas(target, ("serving-1", "serving-2")),
        RemovePod(target, "serving-1", "delete"), PauseReplicas(target, ("serving-1",)), RollOut(target),
    )  # fmt: skip
    for fault in faults:
        assert fault.undo.action in ACTIONS
