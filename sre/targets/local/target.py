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
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import httpx

from sre.clock import Clock, SystemClock
from sre.errors import CannotRun, StepFailed, TargetUnavailable, UndoIncomplete, UsageError
from sre.readings import Endpoints, Replica
from sre.targets.base import Capability
from sre.targets.local import processes, state
from sre.targets.local.keys import LocalKeys
from sre.targets.local.lacking import Lacking
from sre.targets.local.layout import ARMS, Layout, Parts, Synchronous, unprivileged_account
from sre.targets.local.members import LocalDatabase
from sre.targets.local.programs import PROGRAMS, find
from sre.targets.local.router import LocalRouter, served

SUPERVISOR = (sys.executable, "-m", "sre.targets.local.supervisor")
UP_WITHIN_S = 660.0
DOWN_WITHIN_S = 120.0
# Supervisors that this process began: it is their parent, so it must collect them when they have ended.
_begun: dict[Path, subprocess.Popen[bytes]] = {}
# What a system makes below its home, beside its state.
FOLDERS = ("config", "data", "logs", "offsite", "restored", "run", "secrets")


class LocalTarget(Lacking):
    """A system that runs on this machine.

    Args:
        layout: as its supervisor chose it.
    """

    name = "local"
    capabilities = frozenset(
        {
            Capability.REPLICAS,
            Capability.ALERTS,
            Capability.BACKUPS,
            Capability.TRAINING,
            Capability.DATABASE_CLUSTER,
            Capability.WEIGHTS,
            Capability.CABLES,
            Capability.STORES,
            Capability.KEYS,
        }
    )

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

    @property
    def database(self) -> LocalDatabase:
        """The database cluster.

        Raises:
            CannotRun: a restored place has a single server.
        """
        if not self.layout.clustered:
            raise CannotRun(f"the system of {self.layout.home} is a restored place: its database is a single server")
        return LocalDatabase(self.layout)

    @property
    def keys(self) -> LocalKeys:
        """The API keys that replicas accept."""
        return LocalKeys(self.layout)

    @property
    def router(self) -> LocalRouter:
        """Who splits the traffic.

        Raises:
            CannotRun: a restored place has no ingress.
        """
        if self.layout.parts != "all":
            raise CannotRun(f"the system of {self.layout.home} is a restored place: it has no ingress that could split traffic")
        return LocalRouter(self.layout)

    def versions(self) -> dict[str, str]:
        """The version of the model that each replica in production serves, as it says itself, or why it says none."""
        return {name: version or why for name in self.layout.replicas for version, why in [served(self.layout, name)]}

    def signal_service(self, service: str, number: signal.Signals) -> None:
        """Send a signal to a service that is no replica. Raises StepFailed when it has no process."""
        process = self._state().services[service].process
        if not processes.signal_process(process, number):
            raise StepFailed(f"{service} has no process to send {number.name} to (last known: {process or 'none'})")

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
        there = [*self.layout.replicas, *(arm for arm in ARMS if not state.held(self.layout.home, arm))]
        if replica not in there:
            raise UsageError(f"replica {replica!r} does not exist; there are {', '.join(there)}")
        self.signal_service(replica, number)

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


def layout_of(home: Path, tools: Path) -> Layout:
    """The layout of a home, also when nothing runs there; it has no ports then.

    Raises:
        TargetUnavailable: no system was ever begun there.
    """
    current = state.read(home)
    if current is not None and processes.alive(current.supervisor):
        return current.layout(home, tools)
    if not (home / "secrets").exists():
        raise TargetUnavailable(f"{home} holds no system; run `sre up`, or set SRE_HOME")
    return Layout(home, tools, {}, (), unprivileged_account(), "all")


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


def up(  # noqa: PLR0913 - each is a choice of its own
    home: Path,
    tools: Path,
    *,
    replicas: int = 3,
    parts: Parts = "all",
    variant: str = "auto",
    synchronous: Synchronous = "on",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[LocalTarget, bool]:
    """Begin a system, or join the one that runs there.

    Args:
        home: its folder, made when missing.
        tools: folder of unpacked programs.
        replicas: serving replicas; a running system keeps its own number.
        parts: which services.
        variant: of the model that the replicas serve.
        synchronous: whether a commit waits for a standby.
        say: receives one line per change.

    Returns:
        The target, and whether it was begun by this call.

    Raises:
        CannotRun: a service did not become ready (the message holds its last words), or another system holds the home and does
            not become ready within the deadline.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a") as lock:
        if not _taken(lock):
            say(f"a system already holds {home}; joining it")
            # Who gets the lock while waiting knows that the other system has ended.
            joined = _wait_ready(home, tools, say, lambda: _taken(lock))
            if joined is not None:
                return joined, False
        options = ["--replicas", str(replicas), "--parts", parts, "--variant", variant, "--synchronous", synchronous]
        return _begin(home, tools, options, lock, say), True


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begin(home: Path, tools: Path, options: list[str], lock: IO[str], say: Callable[[str], None]) -> LocalTarget:
    # What a killed supervisor left would hold the ports and the database.
    left = processes.sweep(home)
    _collect(home)
    if left:
        say(f"ended {len(left)} processes that an earlier system left: {', '.join(sorted(set(left)))}")
    (home / state.STATE_NAME).unlink(missing_ok=True)
    # What a drill held or cut in a system whose supervisor was killed is not held or cut in this one.
    shutil.rmtree(home / "run", ignore_errors=True)
    (home / "logs").mkdir(exist_ok=True)
    command = [*SUPERVISOR, str(home), "--tools", str(tools), *options]
    with (home / "logs" / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            # The lock is held for as long as either of us has it open, so nobody can come in between.
            env={**os.environ, "SRE_SYSTEM": str(home)}, pass_fds=[lock.fileno()],
        )  # fmt: skip
    _begun[home] = supervisor
    try:
        begun = _wait_ready(home, tools, say, lambda: supervisor.poll() is not None)
    except BaseException:
        down(home)
        raise
    if begun is None:
        words = (home / "logs" / "supervisor.log").read_text(encoding="utf-8", errors="replace").strip()
        down(home)
        raise CannotRun(f"the supervisor ended with {supervisor.returncode}; its last words: {words[-600:] or 'none'}")
    return begun


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
    _collect(home)
    (home / state.STATE_NAME).unlink(missing_ok=True)
    shutil.rmtree(home / "run", ignore_errors=True)
    if purge and home.exists():
        # With the lock, so that nobody begins a system in what is being deleted.
        with (home / "lock").open("a") as lock:
            if not _taken(lock):
                raise UndoIncomplete(f"{home} is not deleted: a system was begun there meanwhile; end that first")
            _purge(home)
    return left


def _collect(home: Path) -> None:
    if home in _begun:
        _begun.pop(home).wait(DOWN_WITHIN_S)


def _purge(home: Path) -> None:
    # Only what a system makes: someone may have named a folder that holds more.
    for name in FOLDERS:
        shutil.rmtree(home / name, ignore_errors=True)
    (home / "lock").unlink(missing_ok=True)
    kept = [name for name in FOLDERS if (home / name).exists()]
    if kept:
        raise UndoIncomplete(f"{', '.join(kept)} of {home} cannot be deleted whole; delete what is left by hand")
    with suppress(OSError):
        home.rmdir()


def _wait_ready(home: Path, tools: Path, say: Callable[[str], None], ended: Callable[[], bool]) -> LocalTarget | None:
    """The system when it is ready, None when it has ended."""
    deadline = time.monotonic() + UP_WITHIN_S
    told: dict[str, str] = {}
    while time.monotonic() < deadline:
        current = state.read(home)
        # What a killed supervisor last wrote says nothing of the system that is beginning.
        if current is not None and (current.state == "failed" or processes.alive(current.supervisor)):
            for name, service in current.services.items():
                if told.get(name) != service.state and service.state in ("ready", "done", "restarting"):
                    say(f"{name}: {service.state}{' (' + service.last + ')' if service.last else ''}")
                told[name] = service.state
            if current.state == "ready":
                return LocalTarget(current.layout(home, tools))
            if current.state == "failed":
                raise CannotRun(f"the system did not start: {current.why}")
        if ended():
            return None
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
