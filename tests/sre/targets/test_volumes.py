"""The simulated Velero behaves as the objects of the real one told."""

from __future__ import annotations

from typing import Any

import pytest

from sre.errors import StepFailed
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.volumes import BACKUP_S, START_S, MemoryVolumes


def begun(**behaviour: Any) -> tuple[MemoryTarget, MemoryVolumes]:
    target = MemoryTarget(Behaviour(**behaviour))
    target.volumes.begin("a")
    target.clock.sleep(START_S)
    target.volumes.fill("a")
    return target, target.volumes


def phases(volumes: MemoryVolumes, kind: str) -> list[str]:
    return [one["status"]["phase"] for one in volumes.records(kind)]


def test_pods_take_a_while_and_cannot_be_filled_before() -> None:
    target = MemoryTarget()
    target.volumes.begin("a")
    with pytest.raises(StepFailed, match="no pod runs in namespace a"):
        target.volumes.fill("a")
    assert [pod["status"]["ready"] for pod in target.volumes.living(["a"]).pods] == [False, False]
    target.clock.sleep(START_S)
    assert [pod["status"]["ready"] for pod in target.volumes.living(["a"]).pods] == [True, True]
    assert target.volumes.files("a") == {}


def test_a_backup_is_in_progress_until_its_time() -> None:
    target, volumes = begun()
    volumes.back_up("b", ["a"])
    assert phases(volumes, "backups") == ["InProgress"]
    assert phases(volumes, "podvolumebackups") == ["InProgress", "InProgress"]
    target.clock.sleep(BACKUP_S)
    assert phases(volumes, "backups") == ["Completed"]
    assert phases(volumes, "podvolumebackups") == ["Completed", "Completed"]
    assert volumes.archived("b", ["a"]) == volumes.living(["a"]).items


def test_a_restore_brings_files_back_elsewhere() -> None:
    target, volumes = begun()
    volumes.back_up("b", ["a"])
    target.clock.sleep(BACKUP_S)
    volumes.bring_back("r", "b", {"a": "c"}, {"keeper-0": "node1"})
    assert phases(volumes, "restores") == ["InProgress"]
    target.clock.sleep(target.behaviour.restore_s)
    assert phases(volumes, "restores") == ["Completed"]
    assert phases(volumes, "podvolumerestores") == ["Completed", "Completed"]
    assert volumes.files("c") == volumes.files("a")
    assert volumes.living(["c"]).pods[0]["spec"]["nodeName"] == "node2"
    assert volumes.left("r", ["a", "c"]) == "namespace a, namespace c, restore r"
    volumes.forget("r", ["a", "c"])
    volumes.forget("r", ["a", "c"])
    assert volumes.left("r", ["a", "c"]) == ""


@pytest.mark.parametrize(("behaviour", "made"), [({"backup_skips": True}, 1), ({}, 2)])
def test_a_volume_can_be_left_out_of_a_backup_that_completes(behaviour: dict[str, Any], made: int) -> None:
    target, volumes = begun(**behaviour)
    volumes.back_up("b", ["a"])
    target.clock.sleep(BACKUP_S)
    assert phases(volumes, "backups") == ["Completed"]
    assert len(volumes.records("podvolumebackups")) == made


def test_without_its_store_no_backup_is_valid() -> None:
    target, volumes = begun(store=False)
    assert phases(volumes, "backupstoragelocations") == ["Unavailable"]
    volumes.back_up("b", ["a"])
    target.clock.sleep(BACKUP_S)
    assert phases(volumes, "backups") == ["FailedValidation"]
    with pytest.raises(StepFailed, match="it is not in the store"):
        volumes.archived("b", ["a"])


def test_the_server_can_be_silent() -> None:
    assert MemoryTarget().volumes.trouble() == ""
    assert MemoryTarget(Behaviour(velero=False)).volumes.trouble() == "the Velero server does not answer `velero version`"
