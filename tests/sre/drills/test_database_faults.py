from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sre.drills import database_faults
from sre.drills.base import EXPERIMENTS, Context, Options
from sre.drills.catalog import DRILLS
from sre.drills.database import DatabaseDrill
from sre.errors import ExitCode, ExperimentFailed, FaultWithoutEffect
from sre.faults.database import KINDS
from sre.targets.base import Capability
from tests.sre.cluster import ClusterTarget, Manners

if TYPE_CHECKING:
    from .conftest import RunDrills

DATABASE = [kind for kind in DRILLS.values() if issubclass(kind, DatabaseDrill)]


def simulated(kind: type[DatabaseDrill]) -> DatabaseDrill:
    """The drill with the simulated target as its own clients."""
    changed = {"clients": lambda _, target: target, "writes_per_s": 40.0}
    return type(kind.__name__, (kind,), changed)()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", DATABASE, ids=lambda kind: kind.name)
def test_each_fault_is_proven_borne_and_taken_back(run_drills: RunDrills, kind: type[DatabaseDrill]) -> None:
    ran = run_drills(simulated(kind), target=ClusterTarget(), options=Options(rate=50.0))
    assert ran.record.exit_code == ExitCode.KEPT, ran.text
    assert ran.step("prove_injected").result == "ok"
    moved = ran.drill.facts["primary_after"] != ran.drill.facts["primary"]
    assert moved is kind.promotes
    assert not [finding for finding in ran.drill.findings if "not expected" in finding]
    assert ran.pending() == 0


@pytest.mark.parametrize("kind", DATABASE, ids=lambda kind: kind.name)
def test_a_fault_that_is_only_reported_has_no_effect(make_context: Callable[..., Context], kind: type[DatabaseDrill]) -> None:
    context = make_context(kind.name)
    context.target = context.observers = ClusterTarget(Manners(bites=False))
    context.folder.mkdir(parents=True)
    drill = simulated(kind)
    drill.inject(context)
    with pytest.raises(FaultWithoutEffect, match="the fault had no effect"):
        drill.prove_injected(context)


@pytest.mark.parametrize("kind", DATABASE, ids=lambda kind: kind.name)
def test_a_cluster_that_is_not_whole_is_not_hurt_further(make_context: Callable[..., Context], kind: type[DatabaseDrill]) -> None:
    context = make_context(kind.name)
    target = context.target = context.observers = ClusterTarget()
    target.cluster.lose_store(["postgres-3"])
    with pytest.raises(ExperimentFailed, match=r"not steady beforehand \(database-trouble\)"):
        simulated(kind).inject(context)
    assert not target.cluster.hurt
    assert context.ledger.entries() == []


@pytest.mark.parametrize("kind", DATABASE, ids=lambda kind: kind.name)
def test_each_has_an_experiment_that_hits_the_same_when_it_is_run_alone(kind: type[DatabaseDrill]) -> None:
    document = json.loads((EXPERIMENTS / str(kind.experiment)).read_text(encoding="utf-8"))
    assert document["configuration"]["member"]["default"] == kind.whom
    (action,) = document["method"]
    assert action["provider"]["arguments"]["kind"] in KINDS


@pytest.mark.parametrize("kind", [kind for kind in DATABASE if kind.needs > DatabaseDrill.needs], ids=lambda kind: kind.name)
def test_what_a_target_cannot_do_is_known_before_anything_is_changed(run_drills: RunDrills, kind: type[DatabaseDrill]) -> None:
    class Plain(ClusterTarget):
        capabilities = ClusterTarget.capabilities - {Capability.CABLES, Capability.STORES}

    target = Plain()
    ran = run_drills(simulated(kind), target=target)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    (lacking,) = kind.needs - DatabaseDrill.needs
    assert ran.step("preflight").detail == f"target memory cannot do {lacking}, which {kind.name} needs"
    assert ran.step("steady").result == "skipped"
    assert not target.cluster.outages
    assert ran.pending() == 0


def test_every_drill_of_the_module_is_in_the_catalogue() -> None:
    found = [kind for kind in vars(database_faults).values() if isinstance(kind, type) and issubclass(kind, DatabaseDrill)]
    assert set(found) - {DatabaseDrill} == set(DATABASE)
