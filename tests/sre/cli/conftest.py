"""`sre` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.targets.local.target import LocalTarget

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
