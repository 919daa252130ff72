from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sre.config import Settings
from sre.drills import session
from sre.drills.base import Options
from sre.drills.pod_recovery import PodRecovery
from sre.errors import TargetUnavailable

if TYPE_CHECKING:
    from .conftest import Watcher


def test_drills_need_a_system_that_runs_and_leave_no_evidence_without_one(tmp_path: Path, watcher: Watcher) -> None:
    settings = Settings(home=tmp_path / "home", tools=tmp_path / "tools", evidence=tmp_path / "evidence")
    with pytest.raises(TargetUnavailable, match="; run `sre up`"):
        session.on_running(settings, [PodRecovery()], name="test", options=Options(), narrator=watcher)
    assert not settings.evidence.exists()
    assert watcher.drills == []
