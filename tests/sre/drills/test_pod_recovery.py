from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import EXPERIMENTS, Options
from sre.drills.pod_recovery import PodDeleted, PodEvicted, PodRecovery, ZoneKilled
from sre.errors import ExitCode
from sre.promises import promise
from sre.targets.memory import Behaviour
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills


def test_a_killed_replica_is_measured_until_full_service(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery())
    assert ran.record.exit_code == ExitCode.KEPT
    verdict = ran.verdict("pod-recovery")
    # One second to the new process, four to ready, and at most one look later.
    assert verdict.measured is not None
    assert 5.0 <= verdict.measured <= 5.2
    assert ran.verdict("availability").outcome is Outcome.KEPT
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == "SIGKILL serving-2"
    assert ran.drill.fault.end == pytest.approx(ran.drill.fault.start + verdict.measured)
    assert ran.target.replicas()[1].restarts == 1
    assert run.verify(ran.folder, ran.key) == []


def test_the_replica_of_the_options_is_killed(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), options=Options(replica="serving-3"))
    assert [replica.restarts for replica in ran.target.replicas()] == [0, 0, 1]


@pytest.mark.parametrize(("drill", "fault"), [(PodDeleted, "deletion"), (PodEvicted, "eviction")])
def test_a_pod_that_is_removed_is_measured_likewise(run_drills: RunDrills, drill: type[PodRecovery], fault: str) -> None:
    ran = run_drills(drill())
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == f"{fault} of the pod of serving-2"
    assert [verdict.promise for verdict in ran.drill.verdicts] == list(drill.promises)
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


def test_a_request_that_an_eviction_fails_breaks_the_promise(run_drills: RunDrills) -> None:
    ran = run_drills(PodEvicted(), behaviour=Behaviour(replicas=1), options=Options(replica="serving-1"))
    assert ran.record.exit_code == ExitCode.BROKEN
    assert ran.verdict("planned-changes").outcome is Outcome.BROKEN
    assert ran.verdict("pod-recovery").outcome is Outcome.KEPT
    assert run.verify(ran.folder, ran.key) == []


@pytest.mark.parametrize("drill", [PodDeleted, PodEvicted, ZoneKilled])
def test_a_fault_that_never_came_is_no_drill(run_drills: RunDrills, drill: type[PodRecovery]) -> None:
    ran = run_drills(drill(), behaviour=Behaviour(faults_work=False))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "the fault had no effect" in ran.text
    assert ran.pending() == 0


def test_every_replica_of_the_zone_is_killed_and_no_other(run_drills: RunDrills) -> None:
    ran = run_drills(ZoneKilled(), options=Options(replica="serving-3"))
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == "SIGKILL serving-1 and serving-3"
    assert [replica.restarts for replica in ran.target.replicas()] == [1, 0, 1]
    assert ran.verdict("pod-recovery").outcome is Outcome.KEPT
    assert run.verify(ran.folder, ran.key) == []


def test_few_users_are_watched_until_they_decide_something(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), options=Options(rate=100.0))
    assert ran.record.exit_code == ExitCode.KEPT
    verdict = ran.verdict("availability")
    assert verdict.outcome is Outcome.KEPT
    assert verdict.n >= promise("availability").least


@pytest.mark.parametrize(
    ("zones", "says"),
    [
        ((), "with replicas of the API: in no zone"),
        (("a", "b", ""), "with replicas of the API: in no zone"),
        (("a",), "nodes name 1 zones, and two are needed"),
    ],
    ids=["none", "one node in none", "one"],
)
def test_every_replica_is_in_one_of_several_zones(run_drills: RunDrills, zones: tuple[str, ...], says: str) -> None:
    ran = run_drills(ZoneKilled(), behaviour=Behaviour(zones=zones))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert says in ran.text


def test_what_users_lost_is_told(run_drills: RunDrills) -> None:
    # The only replica: everybody sees the restart.
    ran = run_drills(PodRecovery(), behaviour=Behaviour(replicas=1), options=Options(replica="serving-1"))
    assert ran.record.exit_code == ExitCode.BROKEN
    assert ran.verdict("pod-recovery").outcome is Outcome.KEPT
    assert ran.verdict("availability").outcome is Outcome.BROKEN
    assert any(finding.startswith("users lost ") for finding in ran.drill.findings)
    assert run.verify(ran.folder, ran.key) == []


SABOTAGE: list[tuple[str, Behaviour, Mapping[str, Mapping[str, Any]], ExitCode, str]] = [
    ("no load", Behaviour(generator="silent"), {}, ExitCode.INCONCLUSIVE, "the load generator sent nothing"),
    ("dead load", Behaviour(generator="dead"), {}, ExitCode.CANNOT_RUN, "the load ended by itself"),
    ("no replica", Behaviour(replicas=0), {}, ExitCode.CANNOT_RUN, "no replica at all"),
    ("no victim", Behaviour(replicas=1), {}, ExitCode.CANNOT_RUN, "'serving-2' does not exist; there are serving-1"),
    ("no effect", Behaviour(faults_work=False), {}, ExitCode.CANNOT_RUN, "the fault had no effect"),
    ("too late", Behaviour(startup_s=40.0), {}, ExitCode.BROKEN, "full service after 41.1 s"),
    ("grows", Behaviour(scale_to=4, scale_up_s=2.0), {}, ExitCode.BROKEN, "not whole again after 70 s"),
    ("flaps", Behaviour(startup_s=29.5), {}, ExitCode.BROKEN, "full service after 30."),
    ("errors", Behaviour(failing=0.02), {}, ExitCode.BROKEN, "requests got no prediction"),
    ("no metric", Behaviour(metric=False), {}, ExitCode.CANNOT_RUN, "no counter of a replica"),
    ("metric lost", Behaviour(), {"steady": {"metric": False}}, ExitCode.INCONCLUSIVE, "counters could not be read"),
    ("no Prometheus", Behaviour(prometheus=False), {}, ExitCode.CANNOT_RUN, "no counter of a replica"),
    ("Prometheus lost", Behaviour(), {"inject": {"prometheus": False}}, ExitCode.INCONCLUSIVE, "counters could not be read"),
    ("sources differ", Behaviour(counted=0.7), {}, ExitCode.INCONCLUSIVE, "the servers counted"),
    ("late generator", Behaviour(late_s=0.1), {}, ExitCode.INCONCLUSIVE, "left more than 50 ms late"),
    ("busy generator", Behaviour(cpu=0.95), {}, ExitCode.INCONCLUSIVE, "the load generator used 95% of a core"),
]


@pytest.mark.parametrize(
    ("behaviour", "after", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE]
)
def test_sabotage_never_ends_as_kept_and_is_undone(
    run_drills: RunDrills, behaviour: Behaviour, after: Mapping[str, Mapping[str, Any]], exit_code: ExitCode, words: str
) -> None:
    ran = run_drills(PodRecovery(), behaviour=behaviour, after=after)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert ran.step("undo").result == "ok"
    assert ran.pending() == 0
    assert all(replica.ready for replica in ran.target.replicas())
    assert run.verify(ran.folder, ran.key) == []


def test_a_replica_that_never_returns_is_broken_and_still_changed(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), behaviour=Behaviour(startup_s=math.inf))
    assert ran.record.exit_code == ExitCode.UNDO_INCOMPLETE
    assert ran.record.outcome is Outcome.BROKEN
    assert ran.verdict("pod-recovery").why == "full service was not seen in 70.1 s"
    assert "serving-2 was not ready within 90 s" in ran.step("undo").detail
    assert ran.pending() == 1
    assert run.verify(ran.folder, ran.key) == []


def test_a_load_that_ends_before_the_drill_leaves_no_verdict_on_the_recovery(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), options=Options(seconds=10.0))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "the load ended before the drill did" in ran.step("recover").detail
    assert [verdict.promise for verdict in ran.drill.verdicts] == ["availability"]
    assert ran.pending() == 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"steady-state-hypothesis": {"probes": {"tolerance": 1}}}, "not steady beforehand (replicas-not-ready)"),
        ({"method": {"provider": {"func": "undo_all", "arguments": {}}}}, "instead of what it changed"),
        ({"method": {"provider": {"arguments": {"replica": "serving-9"}}}}, "kill-replica failed:"),
    ],
    ids=["not steady", "an action without a fault", "an action that fails"],
)
def test_an_experiment_that_chaos_toolkit_calls_completed_does_not_pass(
    run_drills: RunDrills, tmp_path: Path, edit: dict[str, Any], words: str
) -> None:
    document = json.loads((EXPERIMENTS / "pod-recovery.json").read_text(encoding="utf-8"))
    _merge(document, edit)
    altered = tmp_path / "altered.json"
    altered.write_text(json.dumps(document), encoding="utf-8")

    class Altered(PodRecovery):
        experiment = str(altered)

    ran = run_drills(Altered())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert words in ran.step("inject").detail
    assert ran.step("recover").result == "skipped"
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


def _merge(document: Any, edit: Any) -> None:
    for key, value in edit.items():
        inner = document[key][0] if isinstance(document[key], list) else document[key]
        if key == "arguments" or not isinstance(value, dict):
            document[key] = value
        else:
            _merge(inner, value)
