from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import UndoIncomplete, UsageError
from sre.faults.base import Undo
from sre.faults.ledger import ACTIONS, Ledger
from sre.faults.node import KINDS, lost
from sre.targets.memory import Behaviour, MemoryTarget


@pytest.mark.parametrize("how", KINDS)
def test_every_way_of_losing_a_node_says_what_it_does_and_is_taken_back(how: str, tmp_path: Path) -> None:
    target = MemoryTarget()
    fault = lost(target, "node-2", how)
    assert "node-2" in fault.name
    assert fault.undo.action in ACTIONS
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.plan(fault.undo)
    fault.inject()
    target.clock.sleep(60.0)
    assert not target.nodes.all()[1].open
    assert ledger.replay(target) == [fault.undo.sentence]
    assert all(node.ready and node.open for node in target.nodes.all())
    assert all(replica.ready for replica in target.replicas())
    assert ledger.pending() == []


def test_the_undo_is_data() -> None:
    undo = lost(MemoryTarget(), "node-1", "power-off").undo
    assert undo == Undo("bring-node-back", {"node": "node-1", "how": "power-off"}, "switch node-1 on again")


@pytest.mark.parametrize(
    ("node", "how", "words"),
    [
        ("node-9", "cut", "node 'node-9' does not exist; there are node-1, node-2, node-3"),
        ("node-1", "burn", "cannot be lost by 'burn'; there are power-off, cut, kubelet, drain"),
    ],
)
def test_unknown_names_are_wrong_requests(node: str, how: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        lost(MemoryTarget(), node, how)


def test_an_undo_whose_replicas_do_not_return_is_incomplete(tmp_path: Path) -> None:
    target = MemoryTarget(Behaviour(startup_s=1000.0))
    fault = lost(target, "node-2", "power-off")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.plan(fault.undo)
    fault.inject()
    with pytest.raises(UndoIncomplete, match="switch node-2 on again: serving-2 was not ready within 90 s"):
        ledger.replay(target)
    assert len(ledger.pending()) == 1
