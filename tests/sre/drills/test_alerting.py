from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.alerting import Alerting
from sre.drills.base import Options
from sre.errors import ExitCode
from sre.readings import LoadPlan
from sre.targets.memory import RUNBOOK, Behaviour
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills


def test_an_alert_that_fires_and_resolves_keeps_both_promises(run_drills: RunDrills) -> None:
    ran = run_drills(Alerting())
    assert ran.record.exit_code == ExitCode.KEPT
    # A scrape of 2 s and an evaluation of 1 s, then 10 s of waiting; the look that saw it comes at most 0.5 s later.
    fired, resolved = ran.verdict("alerting").measured, ran.verdict("alert-resolution").measured
    assert fired is not None
    assert resolved is not None
    assert 13.0 <= fired <= 13.6
    assert 3.0 <= resolved <= 3.6
    assert ran.drill.facts["runbook"] == RUNBOOK
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == "SIGSTOP serving-2"
    assert ran.drill.fault.end == pytest.approx(ran.drill.fault.start + fired, abs=0.01)
    assert ran.drill.findings == ()
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


def test_replicas_that_an_autoscaler_has_added_freeze_too(run_drills: RunDrills) -> None:
    ran = run_drills(Alerting(), behaviour=Behaviour(replicas=5))
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == "SIGSTOP serving-2 and serving-1 and serving-3"
    assert all(replica.ready for replica in ran.target.replicas())


def test_the_load_outlasts_both_watches() -> None:
    assert Alerting().plan(Options()) == LoadPlan(rate=50.0, seconds=480.0, seed=1)


def test_an_alert_that_is_active_beforehand_proves_nothing(run_drills: RunDrills) -> None:
    behaviour = Behaviour(alert_resolves=False)
    ran = run_drills(Alerting(), Alerting(), behaviour=behaviour)
    second = ran.record.drills[1]
    assert second.steps[0].result == "failed"
    assert "LowReplicaCount is active" in second.steps[0].detail


SABOTAGE: list[tuple[str, Behaviour, Mapping[str, Mapping[str, Any]], ExitCode, str]] = [
    ("no load", Behaviour(generator="silent"), {}, ExitCode.INCONCLUSIVE, "the load generator sent nothing"),
    ("dead load", Behaviour(generator="dead"), {}, ExitCode.CANNOT_RUN, "the load ended by itself"),
    ("no replica", Behaviour(replicas=0), {}, ExitCode.CANNOT_RUN, "no replica at all"),
    ("no victim", Behaviour(replicas=1), {}, ExitCode.CANNOT_RUN, "'serving-2' does not exist"),
    ("no effect", Behaviour(faults_work=False), {}, ExitCode.CANNOT_RUN, "the fault had no effect"),
    ("never fires", Behaviour(alert_for_s=math.inf), {}, ExitCode.BROKEN, "was not seen in 180."),
    ("fires too late", Behaviour(alert_for_s=130.0), {}, ExitCode.BROKEN, "LowReplicaCount in Alertmanager after 133."),
    ("never resolves", Behaviour(alert_resolves=False), {}, ExitCode.BROKEN, "the end of LowReplicaCount was not seen"),
    ("no metric", Behaviour(metric=False), {}, ExitCode.CANNOT_RUN, "no counter of a replica"),
    ("metric lost", Behaviour(), {"steady": {"metric": False}}, ExitCode.INCONCLUSIVE, "counters could not be read"),
    ("no Prometheus", Behaviour(prometheus=False), {}, ExitCode.CANNOT_RUN, "no counter of a replica"),
    ("Prometheus lost", Behaviour(), {"inject": {"prometheus": False}}, ExitCode.BROKEN, "was not seen in 180."),
    ("no Alertmanager", Behaviour(alertmanager=False), {}, ExitCode.CANNOT_RUN, "Alertmanager does not answer"),
    ("Alertmanager lost", Behaviour(), {"inject": {"alertmanager": False}}, ExitCode.CANNOT_RUN, "nobody can say"),
    ("sources differ", Behaviour(counted=0.5), {}, ExitCode.INCONCLUSIVE, "the servers counted"),
]


@pytest.mark.parametrize(
    ("behaviour", "after", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE]
)
def test_sabotage_never_ends_as_kept_and_is_undone(
    run_drills: RunDrills, behaviour: Behaviour, after: Mapping[str, Mapping[str, Any]], exit_code: ExitCode, words: str
) -> None:
    ran = run_drills(Alerting(), behaviour=behaviour, after=after)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert ran.step("undo").result == "ok"
    assert ran.pending() == 0
    assert all(replica.ready for replica in ran.target.replicas())
    assert run.verify(ran.folder, ran.key) == []


def test_a_load_that_ends_while_the_alert_is_awaited_leaves_no_verdict(run_drills: RunDrills) -> None:
    ran = run_drills(Alerting(), behaviour=Behaviour(alert_for_s=60.0), options=Options(seconds=20.0))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert ran.drill.verdicts == ()
    assert ran.pending() == 0


def test_an_alert_without_a_runbook_and_one_that_fires_along_are_findings(run_drills: RunDrills) -> None:
    ran = run_drills(Alerting(), behaviour=Behaviour(runbook="", others=("HighErrorRate",)))
    assert ran.drill.findings == ("LowReplicaCount names no runbook", "HighErrorRate fired too")
    assert ran.verdict("alerting").outcome is Outcome.KEPT
    assert run.verify(ran.folder, ran.key) == []
