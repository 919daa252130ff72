from __future__ import annotations

from sre.faults.base import Fault, Undo
from sre.faults.ledger import ACTIONS
from sre.faults.process import KillReplica, PauseReplica, RollOut
from sre.targets.memory import MemoryTarget


def test_a_kill_says_what_it_does_and_that_the_platform_repairs_it() -> None:
    target = MemoryTarget()
    fault: Fault = KillReplica(target, "serving-2")
    assert fault.name == "SIGKILL serving-2"
    assert fault.undo == Undo("await-ready", {"replica": "serving-2"}, "wait until serving-2 is ready again")
    assert target.replicas()[1].identity
    fault.inject()
    assert target.replicas()[1].identity == ""


def test_a_pause_says_what_it_does_and_how_it_ends() -> None:
    target = MemoryTarget()
    fault: Fault = PauseReplica(target, "serving-2")
    assert fault.name == "SIGSTOP serving-2"
    assert fault.undo == Undo("resume", {"replica": "serving-2"}, "resume serving-2")
    assert target.replicas()[1].ready
    fault.inject()
    assert [replica.ready for replica in target.replicas()] == [True, False, True]


def test_every_undo_is_one_that_the_ledger_knows() -> None:
    target = MemoryTarget()
    for fault in (KillReplica(target, "serving-1"), PauseReplica(target, "serving-1"), RollOut(target)):
        assert fault.undo.action in ACTIONS
