from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sre.config import Settings
from sre.drills import session
from sre.drills.base import Options
from sre.drills.catalog import GAME_DAY
from sre.drills.pod_recovery import PodDeleted, PodRecovery
from sre.drills.restore import Restore
from sre.drills.training import Training
from sre.errors import TargetUnavailable
from sre.targets.local.target import LocalTarget
from sre.targets.memory import Behaviour, MemoryTarget

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
    assert [drill.name for drill in session.able(GAME_DAY, LocalTarget.capabilities)] == [
        "training", "peak-load", "pod-recovery", "alerting", "database-recovery", "canary-wrong-classes", "restore",
    ]  # fmt: skip
    assert [drill.name for drill in session.able(GAME_DAY, MemoryTarget.capabilities)] == [
        "peak-load", "pod-recovery", "alerting", "scale-out", "rolling-update", "network-policy", "node-recovery",
        "canary-wrong-classes",
    ]  # fmt: skip
    assert not [drill.name for drill in session.able(GAME_DAY, ()) if drill.needs]


@pytest.mark.parametrize(
    ("every", "ran", "left"), [(False, "pod-recovery", "training"), (True, "pod-recovery, pod-deleted", "training, restore")]
)
def test_a_game_day_runs_one_of_each_kind_or_every_drill_and_names_those_that_it_leaves_out(  # noqa: PLR0913 - its cases
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watcher: Watcher, *, every: bool, ran: str, left: str
) -> None:
    target = MemoryTarget(Behaviour())
    monkeypatch.setattr(session, "running", lambda *_: nullcontext((target, target)))
    monkeypatch.setattr(session, "GAME_DAY", (Training, PodRecovery))
    monkeypatch.setattr(session, "DRILLS", {kind.name: kind for kind in (Training, PodRecovery, PodDeleted, Restore)})
    settings = Settings(home=tmp_path / "home", evidence=tmp_path / "evidence")
    finished = session.gameday(settings, "kubernetes", options=Options(), every=every, keep=False, narrator=watcher)
    assert ", ".join(drill.name for drill in finished.record.drills) == ran
    assert watcher.changes == [f"target kubernetes cannot do {left}"]
