from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sre.chaos import attach
from sre.errors import TargetUnavailable, UsageError
from sre.faults.ledger import Ledger
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryTarget


@pytest.mark.usefixtures("bound")
def test_what_is_bound_is_used_and_not_the_environment(
    target: MemoryTarget, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(attach.TARGET_VARIABLE, "kubernetes:somewhere")
    assert attach.current() == (target, ledger)


@pytest.mark.parametrize("handle", ["elsewhere:somewhere", "memory", ""])
def test_an_unknown_handle_is_a_wrong_request(monkeypatch: pytest.MonkeyPatch, handle: str) -> None:
    monkeypatch.setenv(attach.TARGET_VARIABLE, handle)
    with pytest.raises(UsageError, match="is not known; there are local:HOME and kubernetes:HOME"):
        attach.current()


def test_a_home_without_a_system_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(attach.TARGET_VARIABLE, f"local:{tmp_path}")
    with pytest.raises(TargetUnavailable, match="no system runs in"):
        attach.current()


def test_without_a_handle_the_home_of_the_settings_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(TargetUnavailable, match=r"no system runs in .*elsewhere"):
        attach.current()


@pytest.mark.local
def test_the_running_system_is_joined_with_the_ledger_of_the_run_or_its_own(
    system: LocalTarget, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SRE_TOOLS", str(system.layout.tools))
    monkeypatch.setenv(attach.TARGET_VARIABLE, system.handle)
    joined, ledger = attach.current()
    assert joined.handle == system.handle
    assert ledger.path == system.layout.home / "ledger.jsonl"
    monkeypatch.setenv(attach.LEDGER_VARIABLE, str(tmp_path / "ledger.jsonl"))
    assert attach.current()[1].path == tmp_path / "ledger.jsonl"


def test_an_experiment_that_outlived_its_run_is_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    environment = {**os.environ, attach.LEDGER_VARIABLE: str(ledger.path)}
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper, env=environment) as orphan, subprocess.Popen(sleeper) as stranger:
        try:
            assert attach.end_orphans(ledger) == 1
            assert not psutil.pid_exists(orphan.pid)
            assert stranger.poll() is None
        finally:
            orphan.kill()
            stranger.kill()
    assert attach.end_orphans(ledger) == 0
