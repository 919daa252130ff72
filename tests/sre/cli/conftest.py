"""`sre` as a process, and its commands over the memory target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from sre.drills import run as runner
from sre.drills import session
from sre.drills.pod_recovery import PodRecovery
from sre.drills.run import Finished
from sre.targets.local.target import LocalTarget
from sre.targets.memory import Behaviour, MemoryTarget

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sre(tmp_path: Path) -> Run:
    """Runs `sre` on an empty home unless the environment says otherwise."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "NO_COLOR", "COLUMNS"}}
        ours = {"SRE_HOME": str(tmp_path / "home"), "SRE_EVIDENCE": str(tmp_path / "evidence"), "COLUMNS": "200"}
        command = [sys.executable, "-c", "from sre.cli.main import main; main()", *arguments]
        return subprocess.run(command, env=kept | ours | environment, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def on_system(sre: Run, system: LocalTarget) -> Run:
    """Runs `sre` on the session's system."""
    places = {"SRE_HOME": str(system.layout.home), "SRE_TOOLS": str(system.layout.tools)}
    return lambda *arguments, **environment: sre(*arguments, **(places | environment))


@pytest.fixture
def document() -> Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]:
    """Reads the one JSON document on stdout, of a schema."""

    def read(done: subprocess.CompletedProcess[str], schema: str) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(done.stdout)
        assert parsed["schema"] == schema
        return parsed

    return read


@pytest.fixture
def code() -> Callable[[Callable[[], None]], int]:
    """Calls a command and says how it ended."""

    def call(command: Callable[[], None]) -> int:
        with pytest.raises(typer.Exit) as ended:
            command()
        return ended.value.exit_code

    return call


@pytest.fixture
def on_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Drills run on the memory target in place of the local system."""
    monkeypatch.setenv("SRE_EVIDENCE", str(tmp_path / "evidence"))
    monkeypatch.setenv("SRE_HOME", str(tmp_path / "home"))

    def on_running(settings: Any, where: Any, chosen: Any, **named: Any) -> Finished:
        del where
        target = MemoryTarget(Behaviour())
        return runner.run(chosen, target, target, root=settings.evidence, signing_key=settings.signing_key, **named)

    def gameday(settings: Any, where: Any, *, options: Any, every: bool, keep: bool, narrator: Any) -> Finished:  # noqa: PLR0913 - as the real one
        narrator.change(f"{'every drill' if every else 'one of each kind'}, {'begun' if keep else 'begun, will be ended'}")
        return on_running(settings, where, [PodRecovery()], name="gameday", options=options, narrator=narrator)

    monkeypatch.setattr(session, "on_running", on_running)
    monkeypatch.setattr(session, "gameday", gameday)
