"""kubectl, and a real Kubernetes cluster where one can run.

The cluster is what KUBECONFIG names, or what the command of SRE_CLUSTER begins with `up`: that prints `export KUBECONFIG=...`,
and its second call finds what its first began. `status` fails while there is none, `down` ends it.
"""

from __future__ import annotations

import json
import lzma
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sre.config import PROJECT, Settings

_BESIDE = PROJECT.parent / "shared" / "cluster"
# Read when this is imported: tests run without such variables.
_COMMAND = os.environ.get("SRE_CLUSTER", "")
_GIVEN = os.environ.get("KUBECONFIG", "")
ADDONS = "storage,metrics,gateway,minio,velero"
_BEGIN_WITHIN_S = 300
_ANSWER_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is up.

    Attributes:
        kubectl: the program.
        kubeconfig: file that names the cluster.
        command: what builds images for it and handles its nodes; empty where KUBECONFIG was given.
    """

    kubectl: Path
    kubeconfig: Path
    command: tuple[str, ...]

    def run(
        self, *arguments: str, text: str | None = None, check: bool = True, within_s: float = _ANSWER_WITHIN_S
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, with `text` as its input."""
        command = [str(self.kubectl), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=within_s, check=False)
        assert not check or not done.returncode, f"kubectl {' '.join(arguments)}: {done.stderr.strip()[-2000:]}"
        return done

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` says, parsed."""
        return json.loads(self.run("get", *arguments, "-o", "json").stdout)


@cache
def find_program(name: str, packed_as: str = "") -> Path | None:
    """A program of PATH, or unpacked once from beside the test cluster."""
    packed = _BESIDE / "bin" / f"{packed_as or name}.xz"
    if found := shutil.which(name):
        return Path(found)
    if not packed.exists():
        return None
    program = Settings().tools / name
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=program.parent, delete=False) as fresh, lzma.open(packed) as source:
            shutil.copyfileobj(source, fresh)
        Path(fresh.name).chmod(0o755)
        Path(fresh.name).rename(program)
    return program


def find_kubectl() -> Path | None:
    """kubectl, wherever it is."""
    return find_program("kubectl", "kube")


def definitions(name: str) -> bytes | None:
    """A file of custom resource definitions from beside the test cluster; None where it is not there."""
    packed = _BESIDE / "bin" / f"{name}.yaml.xz"
    return lzma.decompress(packed.read_bytes()) if packed.exists() else None


def begin() -> Cluster | str:
    """The cluster, begun where it is not up; in words why there is none."""
    program = find_kubectl()
    if program is None:
        return "kubectl is not on PATH"
    if not _COMMAND:
        return Cluster(program, Path(_GIVEN), ()) if _GIVEN else "set KUBECONFIG to one, or SRE_CLUSTER to what begins one"
    command = shlex.split(_COMMAND)
    try:
        done = subprocess.run(
            [*command, "up", "--addons", ADDONS], capture_output=True, text=True, timeout=_BEGIN_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the cluster was not up after {_BEGIN_WITHIN_S} s"
    exports = dict(line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode or "KUBECONFIG" not in exports:
        return f"the cluster cannot be begun: {done.stderr.strip()[-600:]}"
    return Cluster(program, Path(exports["KUBECONFIG"]), tuple(command))


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """kubectl, whose kustomize renders the manifests."""
    found = find_kubectl()
    if found is None:
        pytest.skip("kubectl is not on PATH; install it")
    return found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster that is up. One that was up before stays so."""
    before = _up()
    begun = begin()
    if isinstance(begun, str):
        pytest.skip(f"no Kubernetes cluster: {begun}")
    yield begun
    if not before:
        subprocess.run([*begun.command, "down"], capture_output=True, timeout=_BEGIN_WITHIN_S, check=True)


def _up() -> bool:
    """Whether the cluster that SRE_CLUSTER would begin is up already, or another is named."""
    if not _COMMAND:
        return True
    return not subprocess.run([*shlex.split(_COMMAND), "status"], capture_output=True, timeout=60, check=False).returncode
