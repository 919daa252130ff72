"""The simulated cluster is lost, made again and disappoints as it is told to."""

from __future__ import annotations

import pytest

from sre.errors import StepFailed
from sre.targets.backups import NAMESPACES
from sre.targets.memory import Behaviour, MemoryTarget


def test_what_is_whole_lacks_nothing() -> None:
    site = MemoryTarget().site
    assert (site.trouble(), site.missing(), site.misfits()) == ("", "", "")
    assert site.identity() == "cluster-1"
    assert site.answering(site.doors()) == ", ".join(site.doors())
    assert site.holds() == ", ".join(f"namespace {name}" for name in NAMESPACES)
    assert len(site.contents()) == 3
    assert site.archive()


def test_with_a_cluster_everything_in_it_is_lost() -> None:
    target = MemoryTarget()
    doors = target.site.doors()
    target.site.destroy()
    assert (target.site.answering(doors), target.site.identity(), target.site.holds()) == ("", "", "")
    assert target.site.missing() == "no workload is there"
    assert target.volumes.trouble() == "Velero is not installed"
    with pytest.raises(StepFailed):
        target.site.contents()


def test_another_cluster_is_empty_and_its_velero_knows_the_backups_after_a_while() -> None:
    target = MemoryTarget()
    target.volumes.back_up("b", NAMESPACES)
    target.site.destroy()
    before = target.clock.now()
    target.site.create()
    target.site.create()
    assert target.clock.now() - before == target.behaviour.create_s
    assert (target.site.identity(), target.site.holds()) == ("cluster-2", "")
    target.site.install(lambda _: None)
    assert target.volumes.records("backups") == []
    target.clock.sleep(target.behaviour.sync_s)
    assert [one["metadata"]["name"] for one in target.volumes.records("backups")] == ["b"]
    target.volumes.bring_back("r", "b", {name: name for name in NAMESPACES}, {}, without=("cluster-name=ml",))
    target.clock.sleep(target.behaviour.restore_s)
    assert target.site.missing() == "data/postgres: 0 of 3 ready"
    target.clock.sleep(target.behaviour.system_s)
    assert target.site.missing() == ""
    assert len(target.site.contents()) == 3
    target.site.clear(lambda _: None)
    assert target.site.holds() == ""


def test_it_disappoints_as_told() -> None:
    assert MemoryTarget(Behaviour(rebuildable=False)).site.trouble()
    assert MemoryTarget(Behaviour(store_outside=False)).site.trouble() == "the store is inside the cluster, and is lost with it"
    stays = MemoryTarget(Behaviour(faults_work=False)).site
    stays.destroy()
    assert stays.identity() == "cluster-1"
