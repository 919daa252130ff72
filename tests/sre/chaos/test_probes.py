from __future__ import annotations

import pytest

from sre.chaos import attach, probes
from sre.faults.ledger import Ledger
from sre.targets.memory import Behaviour, MemoryTarget
from tests.sre.cluster import ClusterTarget


@pytest.mark.usefixtures("bound")
def test_replicas_that_do_not_answer_are_counted_and_those_that_are_starting_waited_for(target: MemoryTarget) -> None:
    assert probes.replicas_not_ready() == 0
    target.kill("serving-2")
    began = target.clock.now()
    assert probes.replicas_not_ready() == 0
    assert 0 < target.clock.now() - began < probes.STEADY_WITHIN_S
    target.pause("serving-1")
    target.pause("serving-3")
    assert probes.replicas_not_ready() == 2


@pytest.mark.usefixtures("bound")
def test_no_replica_at_all_is_not_a_steady_state(ledger: Ledger) -> None:
    attach.bind(MemoryTarget(Behaviour(replicas=0)), ledger)
    assert probes.replicas_not_ready() == -1


@pytest.mark.usefixtures("bound")
def test_what_keeps_the_cluster_from_being_whole_is_said(ledger: Ledger) -> None:
    cluster = ClusterTarget()
    attach.bind(cluster, ledger)
    assert probes.database_trouble() == ""
    cluster.database.lose_store(["postgres-3"])
    assert probes.database_trouble() == "the store of postgres-3 does not answer"
