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

from sre.config import Settings
from sre.evidence import bundle, standing
from sre.evidence.files import ATTESTATION
from sre.faults.database import trouble
from sre.targets.kubernetes.router import shares
from sre.targets.kubernetes.target import KubernetesTarget
from sre.targets.local.target import LocalTarget
from tests.cluster import cluster, kubectl
from tests.kubernetes_system import system_on_cluster

__all__ = ["cluster", "kubectl", "system_on_cluster"]

# From before the load begins to after the repair.
SPAN_S = 22.0
# The same on a cluster, where a canary takes half a minute to begin.
CLUSTER_SPAN_S = 75.0
KEY = "signing-key.pem"


def sre(home: Path, evidence: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "SRE_HOME": str(home),
        "SRE_TOOLS": str(Settings().tools),
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


@pytest.mark.local
def test_undo_makes_the_system_whole_after_a_kill(system: LocalTarget, tmp_path: Path, kill: int) -> None:
    moments = random.Random(20_261_124 + kill)
    _kill_and_undo(system.layout.home, tmp_path, moments.uniform(1.0, SPAN_S), moments.choice(["alerting", "pod-recovery"]))
    assert all(replica.ready for replica in system.replicas()), system.replicas()
    # What was not signed is no evidence, however far the run came.
    counted = {record.id for record in standing.newest(tmp_path, standing.known_key(system.layout.home / KEY)).values()}
    assert counted <= {folder.name for folder in bundle.runs(tmp_path) if (folder / ATTESTATION).is_file()}
    assert not _helpers_left(tmp_path)


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_nothing_of_a_killed_drill_stays_on_a_cluster(system_on_cluster: KubernetesTarget, tmp_path: Path, kill: int) -> None:
    moments = random.Random(20_261_129 + kill)
    drill = moments.choice(["node-drain", "database-hung", "canary-good"])
    _kill_and_undo(system_on_cluster.place.home, tmp_path, moments.uniform(10.0, CLUSTER_SPAN_S), drill, "--target", "kubernetes")
    assert [node for node in system_on_cluster.nodes.all() if not (node.ready and node.open)] == []
    assert system_on_cluster.router.split() is None
    assert trouble(system_on_cluster.database) == ""
    assert all(replica.ready for replica in system_on_cluster.replicas()), system_on_cluster.replicas()
    route = system_on_cluster.api.get("/apis/gateway.networking.k8s.io/v1/namespaces/ml-system/httproutes/ml-api")
    assert shares(route["spec"]["rules"]) == (0.0, 0.0)
    assert not _helpers_left(tmp_path)


def _kill_and_undo(home: Path, evidence: Path, after_s: float, *drill: str) -> None:
    running = sre(home, evidence, "drill", *drill)
    time.sleep(after_s)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    undo = sre(home, evidence, "undo")
    output, _ = undo.communicate(timeout=400)
    assert undo.returncode == 0, output


def _helpers_left(evidence: Path) -> list[list[str]]:
    _, alive = psutil.wait_procs(helpers_of(evidence), timeout=15)
    return [process.cmdline() for process in alive]
