from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import Drill, Options
from sre.drills.node import NodeCut, NodeDrain, NodeKubelet, NodeRecovery
from sre.errors import ExitCode
from sre.targets.memory import Behaviour, MemoryTarget
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(NodeRecovery, "power off of node-2"), (NodeCut, "pulled cable of node-2"), (NodeKubelet, "stopped kubelet of node-2")],
)
def test_a_lost_node_is_measured_until_full_service_elsewhere(run_drills: RunDrills, kind: type[Drill], fault: str) -> None:
    ran = run_drills(kind())
    assert ran.record.exit_code == ExitCode.KEPT
    verdict = ran.verdict("node-recovery")
    # 50 s until it is noticed, one to the new process, four to ready, and at most one look later.
    assert verdict.measured is not None
    assert 55.0 <= verdict.measured <= 55.2
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == fault
    assert ran.pending() == 0
    assert all(node.ready and node.open for node in ran.target.nodes.all())
    assert [node.replicas for node in ran.target.nodes.all()] == [("serving-1", "serving-2"), (), ("serving-3",)]
    assert run.verify(ran.folder, ran.key) == []


def test_the_node_that_carries_the_replica_of_the_options_is_lost(run_drills: RunDrills) -> None:
    ran = run_drills(NodeRecovery(), options=Options(replica="serving-3"))
    assert ran.drill.facts["node"] == "node-3"


def test_what_was_on_the_node_is_told_and_prometheus_there_is_no_second_source(run_drills: RunDrills) -> None:
    carried = ("data/minio-0", "monitoring/prometheus-0")
    ran = run_drills(NodeRecovery(), behaviour=Behaviour(node_carries=carried), options=Options(replica="serving-1"))
    assert "also on node-1: data/minio-0, monitoring/prometheus-0" in ran.drill.findings
    assert any("not compared: the fault hit Prometheus itself" in finding for finding in ran.drill.findings)
    assert run.verify(ran.folder, ran.key) == []


def test_a_drain_fails_no_request(run_drills: RunDrills) -> None:
    ran = run_drills(NodeDrain())
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.verdict("planned-changes").measured == 0
    assert ran.step("prove_injected").detail == "node-2 takes no more pods"
    assert run.verify(ran.folder, ran.key) == []


SABOTAGE: list[tuple[str, type[Drill], Behaviour, Mapping[str, Mapping[str, Any]], ExitCode, str]] = [
    ("too late", NodeRecovery, Behaviour(node_noticed_s=330.0), {}, ExitCode.BROKEN, "full service was not seen in 250"),
    ("late", NodeRecovery, Behaviour(node_noticed_s=118.0), {}, ExitCode.BROKEN, "full service after 123."),
    ("no effect", NodeRecovery, Behaviour(faults_work=False), {}, ExitCode.CANNOT_RUN, "serving-2 still ready"),
    ("one node", NodeRecovery, Behaviour(replicas=1), {}, ExitCode.CANNOT_RUN, "there are 1 nodes"),
    ("sources differ", NodeRecovery, Behaviour(counted=0.7), {}, ExitCode.INCONCLUSIVE, "the servers counted"),
    ("dead load", NodeRecovery, Behaviour(generator="dead"), {}, ExitCode.CANNOT_RUN, "the load ended by itself"),
    ("metric lost", NodeCut, Behaviour(), {"steady": {"metric": False}}, ExitCode.INCONCLUSIVE, "counters could not be read"),
    ("drain without effect", NodeDrain, Behaviour(faults_work=False), {}, ExitCode.CANNOT_RUN, "node-2 takes pods"),
    ("a drain that is noticed", NodeDrain, Behaviour(failing=0.01), {}, ExitCode.BROKEN, "requests got no prediction"),
    ("a drain without users", NodeDrain, Behaviour(generator="silent"), {}, ExitCode.INCONCLUSIVE, "sent nothing"),
    ("a drain without end", NodeDrain, Behaviour(startup_s=255.0), {}, ExitCode.INCONCLUSIVE, "not over in 250"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "behaviour", "after", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE]
)
def test_sabotage_never_ends_as_kept(  # noqa: PLR0913, PLR0917 - one row
    run_drills: RunDrills,
    kind: type[Drill],
    behaviour: Behaviour,
    after: Mapping[str, Mapping[str, Any]],
    exit_code: ExitCode,
    words: str,
) -> None:
    options = Options(replica="serving-1") if behaviour.replicas == 1 else Options()
    ran = run_drills(kind(), behaviour=behaviour, after=after, options=options)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert run.verify(ran.folder, ran.key) == []


def test_a_node_whose_replicas_never_return_is_broken_and_still_changed(run_drills: RunDrills) -> None:
    ran = run_drills(NodeRecovery(), behaviour=Behaviour(startup_s=math.inf))
    assert ran.record.exit_code == ExitCode.UNDO_INCOMPLETE
    assert ran.verdict("node-recovery").outcome is Outcome.BROKEN
    assert "switch node-2 on again: serving-2 was not ready within 90 s" in ran.step("undo").detail
    assert ran.pending() == 1


def test_a_second_node_is_not_lost(run_drills: RunDrills) -> None:
    hurt = MemoryTarget()
    hurt.nodes.lose("node-3", "drain")
    hurt.clock.sleep(60.0)
    ran = run_drills(NodeRecovery(), target=hurt)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "node-3 not ready or not open to pods" in ran.step("preflight").detail
