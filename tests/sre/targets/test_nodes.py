from __future__ import annotations

import pytest

from sre.errors import UsageError
from sre.readings import Node
from sre.targets.memory import Behaviour, MemoryTarget


def test_each_replica_has_a_node_of_its_own() -> None:
    target = MemoryTarget(Behaviour(node_carries=("data/minio-0",)))
    assert target.nodes.all() == (
        Node("node-1", True, True, ("serving-1",), ("data/minio-0",), "a"),
        Node("node-2", True, True, ("serving-2",), (), "b"),
        Node("node-3", True, True, ("serving-3",), (), "a"),
    )


def test_a_lost_node_is_noticed_late_and_its_replica_begins_elsewhere() -> None:
    target = MemoryTarget()
    before = target.replicas()[1].identity
    target.nodes.lose("node-2", "power-off")
    assert target.nodes.all()[1].ready
    assert not target.replicas()[1].ready
    target.clock.sleep(50.0)
    assert (target.nodes.all()[1].ready, target.nodes.all()[1].open) == (False, False)
    target.clock.sleep(5.5)
    assert target.replicas()[1].ready
    assert target.replicas()[1].identity != before
    assert target.nodes.all()[0].replicas == ("serving-1", "serving-2")
    target.nodes.bring_back("node-2", "power-off")
    assert target.nodes.all()[1] == Node("node-2", True, True, (), (), "b")


def test_a_drained_node_is_ready_and_closed() -> None:
    target = MemoryTarget()
    target.nodes.lose("node-1", "drain")
    assert (target.nodes.all()[0].ready, target.nodes.all()[0].open) == (True, False)


def test_without_another_node_a_replica_stays_lost_there() -> None:
    target = MemoryTarget(Behaviour(replicas=1))
    target.nodes.lose("node-1", "cut")
    assert target.nodes.all()[0].replicas == ("serving-1",)


def test_faults_that_do_not_work_change_nothing() -> None:
    target = MemoryTarget(Behaviour(faults_work=False))
    target.nodes.lose("node-1", "cut")
    target.clock.sleep(60.0)
    assert all(node.ready for node in target.nodes.all())
    assert all(replica.ready for replica in target.replicas())


@pytest.mark.parametrize("change", ["lose", "bring_back"])
def test_an_unknown_node_is_a_wrong_request(change: str) -> None:
    with pytest.raises(UsageError, match="'node-9' does not exist; there are node-1, node-2, node-3"):
        getattr(MemoryTarget().nodes, change)("node-9", "cut")
