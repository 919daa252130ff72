from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sre.config import Settings
from sre.drills import session
from sre.drills.base import Options
from sre.drills.pod_recovery import PodRecovery
from sre.errors import TargetUnavailable
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryTarget

if TYPE_CHECKING:
    from .conftest import Watcher


@pytest.mark.parametrize("where", ["local", "kubernetes"])
def test_drills_need_a_system_that_runs_and_leave_no_evidence_without_one(
    tmp_path: Path, watcher: Watcher, where: session.TargetName
) -> None:
    settings = Settings(home=tmp_path / "home", tools=tmp_path / "tools", evidence=tmp_path / "evidence")
    with pytest.raises(TargetUnavailable, match="; run `sre up"):
        session.on_running(settings, where, [PodRecovery()], name="test", options=Options(), narrator=watcher)
    assert not settings.evidence.exists()
    assert watcher.drills == []


def test_a_game_day_is_what_a_target_can_do() -> None:
    assert [drill.name for drill in session.of_game_day(LocalTarget.capabilities)] == [
        "training", "peak-load", "pod-recovery", "alerting", "database-recovery", "canary-wrong-classes", "restore",
    ]  # fmt: skip
    assert [drill.name for drill in session.of_game_day(MemoryTarget.capabilities)] == [
        "peak-load", "pod-recovery", "alerting", "scale-out", "rolling-update", "network-policy", "node-recovery",
        "canary-wrong-classes",
    ]  # fmt: skip
    assert not [drill.name for drill in session.of_game_day(()) if drill.needs]
