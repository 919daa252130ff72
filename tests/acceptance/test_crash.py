"""SIGKILL of `sre` in the middle of a drill, at a random moment; then `sre undo`; then the system must be whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sre.evidence import bundle, standing
from sre.evidence.files import ATTESTATION
from sre.targets.local.target import LocalTarget

pytestmark = pytest.mark.local
# From before the load begins to after the repair.
SPAN_S = 22.0
KEY = "signing-key.pem"


def sre(system: LocalTarget, evidence: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "SRE_HOME": str(system.layout.home),
        "SRE_TOOLS": str(system.layout.tools),
        "SRE_EVIDENCE": str(evidence),
        "NO_COLOR": "1",
    }
    command = [str(Path(sys.executable).with_name("sre")), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def helpers_of(evidence: Path) -> list[psutil.Process]:
    """Load generators and chaos processes that work for a run below `evidence`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(evidence):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_undo_makes_the_system_whole_after_a_kill(system: LocalTarget, tmp_path: Path, kill: int) -> None:
    moments = random.Random(20_261_124 + kill)
    drill = sre(system, tmp_path, "drill", moments.choice(["alerting", "pod-recovery"]))
    time.sleep(moments.uniform(1.0, SPAN_S))
    os.kill(drill.pid, signal.SIGKILL)
    drill.communicate(timeout=60)
    undo = sre(system, tmp_path, "undo")
    output, _ = undo.communicate(timeout=150)
    assert undo.returncode == 0, output
    assert all(replica.ready for replica in system.replicas()), system.replicas()
    # What was not signed is no evidence, however far the run came.
    counted = {record.id for record in standing.newest(tmp_path, standing.known_key(system.layout.home / KEY)).values()}
    assert counted <= {folder.name for folder in bundle.runs(tmp_path) if (folder / ATTESTATION).is_file()}
    _, alive = psutil.wait_procs(helpers_of(tmp_path), timeout=15)
    assert not alive, [process.cmdline() for process in alive]
