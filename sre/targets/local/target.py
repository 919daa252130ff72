"""The local target: begin, join and end a system on this machine, and what drills may do to it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from sre.clock import Clock, SystemClock
from sre.errors import CannotRun, StepFailed, TargetUnavailable, UndoIncomplete, UsageError
from sre.targets.base import Capability, Endpoints, Replica
from sre.targets.local import processes, state
from sre.targets.local.layout import Layout, Parts
from sre.targets.local.programs import PROGRAMS, find

UP_WITHIN_S = 660.0
DOWN_WITHIN_S = 60.0


class LocalTarget:
    """A system that runs on this machine.

    Args:
        layout: as its supervisor chose it.
    """

    name = "local"
    capabilities = frozenset({Capability.REPLICAS, Capability.ALERTS, Capability.BACKUPS, Capability.TRAINING})

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.clock: Clock = SystemClock()

    @property
    def handle(self) -> str:
        """`local:HOME`, for `attach` in another process; the tools folder lies beside it in the environment."""
        return f"{self.name}:{self.layout.home}"

    @property
    def endpoints(self) -> Endpoints:
        """Where users and observers reach it."""
        return Endpoints(
            ingress=f"https://{self.layout.address('ingress')}",
            ca_file=self.layout.config / "ca.pem",
            api_key_file=self.layout.secrets / "api-key",
            prometheus=self.layout.url("prometheus"),
            alertmanager=self.layout.url("alertmanager"),
            mlflow=self.layout.url("mlflow"),
            database=self.layout.dsn("backup", "predictions"),
            passfile=self.layout.secrets / "passfile",
            bodies=newest_dataset(self.layout),
        )

    def describe(self) -> Mapping[str, Any]:
        """Programs with versions and sources, Python packages, replicas."""
        found = {program.name: find(program.name, self.layout.tools) for program in PROGRAMS}
        packages = ("fastapi", "uvicorn", "onnxruntime", "mlflow", "locust", "chaostoolkit", "chaostoolkit-lib")
        return {
            "target": self.name,
            "replicas": len(self.layout.replicas),
            "programs": {name: {"version": item.version(), "source": item.source} for name, item in found.items()},
            "packages": {package: version(package) for package in packages},
        }

    def replicas(self) -> tuple[Replica, ...]:
        """All replicas: the process as the supervisor knows it, readiness as each answers it right now."""
        services = self._state().services
        return tuple(
            Replica(name, services[name].process, _ready(self.layout, name, services[name]), services[name].restarts)
            for name in self.layout.replicas
        )

    def kill(self, replica: str) -> None:
        """SIGKILL. Raises StepFailed when there is no process to kill."""
        self._signal(replica, signal.SIGKILL)

    def pause(self, replica: str) -> None:
        """SIGSTOP: the kernel still accepts connections for it, and nothing is answered."""
        self._signal(replica, signal.SIGSTOP)

    def resume(self, replica: str) -> None:
        """SIGCONT."""
        self._signal(replica, signal.SIGCONT)

    def _signal(self, replica: str, number: signal.Signals) -> None:
        if replica not in self.layout.replicas:
            raise UsageError(f"replica {replica!r} does not exist; there are {', '.join(self.layout.replicas)}")
        process = self._state().services[replica].process
        if not processes.signal_process(process, number):
            raise StepFailed(f"{replica} has no process to send {number.name} to (last known: {process or 'none'})")

    def _state(self) -> state.SystemState:
        current = state.read(self.layout.home)
        if current is None:
            raise TargetUnavailable(f"the system of {self.layout.home} is gone; run `sre up`")
        return current


def newest_dataset(layout: Layout) -> Path:
    """Folder of the newest dataset version in bucket `ml-datasets`.

    Raises:
        TargetUnavailable: there is none, so nothing was trained here.
    """
    versions = sorted(manifest.parent for manifest in (layout.objects / "ml-datasets").glob("*/manifest.json"))
    if not versions:
        raise TargetUnavailable(f"{layout.objects} holds no dataset; run `sre up`, which trains a model first")
    return versions[-1]


def attach(home: Path, tools: Path) -> LocalTarget:
    """The running system of a home.

    Raises:
        TargetUnavailable: none runs there, or it is not ready.
    """
    current = state.read(home)
    if current is None or not processes.alive(current.supervisor):
        raise TargetUnavailable(f"no system runs in {home}; run `sre up`")
    if current.state != "ready":
        raise TargetUnavailable(f"the system of {home} is {current.state}{': ' + current.why if current.why else ''}")
    return LocalTarget(current.layout(home, tools))


def up(
    home: Path, tools: Path, *, replicas: int = 3, parts: Parts = "all", say: Callable[[str], None] = lambda line: None
) -> tuple[LocalTarget, bool]:
    """Begin a system, or join the one that runs there.

    Args:
        home: its folder, made when missing.
        tools: folder of unpacked programs.
        replicas: serving replicas; a running system keeps its own number.
        parts: which services.
        say: receives one line per change.

    Returns:
        The target, and whether it was begun by this call.

    Raises:
        CannotRun: a service did not become ready (the message holds its last words), or another system holds the home and does
            not become ready within the deadline.
    """
    home.mkdir(parents=True, exist_ok=True)
    if _held(home):
        say(f"a system already holds {home}; joining it")
        return _wait_ready(home, tools, say), False
    # What a killed supervisor left would hold the ports and the database.
    left = processes.sweep(home)
    if left:
        say(f"ended {len(left)} processes that an earlier system left: {', '.join(sorted(set(left)))}")
    (home / state.STATE_NAME).unlink(missing_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "sre.targets.local.supervisor", str(home),
        "--tools", str(tools), "--replicas", str(replicas), "--parts", parts,
    ]  # fmt: skip
    with (home / "logs" / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "SRE_SYSTEM": str(home)},
        )  # fmt: skip
    try:
        return _wait_ready(home, tools, say, supervisor), True
    except BaseException:
        down(home)
        raise


def down(home: Path, *, purge: bool = False) -> list[str]:
    """End a system, also one whose supervisor was killed. Data stay unless purged.

    Args:
        home: of the system.
        purge: also delete database, objects, metrics and secrets.

    Returns:
        Names of processes that the supervisor did not end itself.

    Raises:
        UndoIncomplete: a process of the system cannot be ended.
    """
    current = state.read(home)
    if current is not None and processes.signal_process(current.supervisor, signal.SIGTERM):
        deadline = time.monotonic() + DOWN_WITHIN_S
        while processes.alive(current.supervisor) and time.monotonic() < deadline:
            time.sleep(0.05)
    left = processes.sweep(home)
    remaining = processes.of_system(home)
    if remaining:
        raise UndoIncomplete(f"these processes of {home} cannot be ended: {', '.join(str(item.pid) for item in remaining)}")
    for name in (state.STATE_NAME, "lock"):
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home / "run", ignore_errors=True)
    if purge:
        shutil.rmtree(home, ignore_errors=True)
        if home.exists():
            raise UndoIncomplete(f"{home} cannot be deleted whole; delete what is left by hand")
    return left


def _held(home: Path) -> bool:
    try:
        with (home / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _wait_ready(
    home: Path, tools: Path, say: Callable[[str], None], supervisor: subprocess.Popen[bytes] | None = None
) -> LocalTarget:
    deadline = time.monotonic() + UP_WITHIN_S
    told: dict[str, str] = {}
    while time.monotonic() < deadline:
        current = state.read(home)
        if current is not None:
            for name, service in current.services.items():
                if told.get(name) != service.state and service.state in ("ready", "done", "restarting"):
                    say(f"{name}: {service.state}{' (' + service.last + ')' if service.last else ''}")
                told[name] = service.state
            if current.state == "ready":
                return LocalTarget(current.layout(home, tools))
            if current.state == "failed":
                raise CannotRun(f"the system did not start: {current.why}")
        if supervisor is not None and supervisor.poll() is not None:
            words = (home / "logs" / "supervisor.log").read_text(encoding="utf-8", errors="replace").strip()
            raise CannotRun(f"the supervisor ended with {supervisor.returncode}; its last words: {words[-600:] or 'none'}")
        time.sleep(0.1)
    waiting = ", ".join(name for name, seen in told.items() if seen not in ("ready", "done"))
    raise CannotRun(f"the system of {home} was not ready within {UP_WITHIN_S:.0f} s; still waiting for {waiting or 'everything'}")


def _ready(layout: Layout, name: str, service: state.ServiceState) -> bool:
    if not processes.alive(service.process):
        return False
    try:
        answer = httpx.get(f"{layout.url(name)}/health/ready", timeout=1.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK
