"""Keeps a local system running: starts its processes in order, and starts again what ends by itself, later each time.

Runs as a process of its own (`python -m sre.targets.local.supervisor HOME ...`), so that it outlives the command that began it,
and inherits from it the lock on the home.
SIGTERM ends everything in reverse order. A SIGKILL leaves its services running; `sre down` finds and ends those too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, get_args

from sre.errors import CannotRun
from sre.targets.local import database, files, prepare, processes, state
from sre.targets.local.layout import Layout, Parts, Synchronous, claim_ports, replica_names, unprivileged_account
from sre.targets.local.plan import nodes
from sre.targets.local.service import Service, Task

READY_WITHIN_S = 180.0
TASK_WITHIN_S = 600.0
STOP_WITHIN_S = 15.0
START_ATTEMPTS = 3
OPEN_FILES = 65_536
# As Kubernetes does: again at once, then later and later, and from the beginning after a calm while.
_FIRST_DELAY_S, _LONGEST_DELAY_S, _CALM_S = 1.0, 60.0, 60.0
_LOG_LIMIT_BYTES = 20_000_000


class StartFailed(CannotRun):
    """A service or task did not become ready."""


class Supervisor:
    """Runs the nodes of one layout.

    Args:
        layout: the system.
        nodes: its services and tasks, each after what it needs.
    """

    def __init__(self, layout: Layout, nodes: Sequence[Service | Task]) -> None:
        self.layout = layout
        self.nodes = nodes
        self.stopping = asyncio.Event()
        self.ready = {node.name: asyncio.Event() for node in self.nodes}
        self.on_demand = {node.name for node in nodes if isinstance(node, Service) and node.on_demand}
        self.running: dict[str, Process] = {}
        self.state = state.SystemState(
            supervisor=processes.identity(os.getpid()),
            state="starting",
            why="",
            parts=layout.parts,
            variant=layout.variant,
            synchronous=layout.synchronous,
            ports=dict(layout.ports),
            replicas=list(layout.replicas),
            account=layout.account,
            services={node.name: state.ServiceState() for node in self.nodes},
        )

    async def run(self) -> int:
        """Start everything, keep it running until SIGTERM, stop everything. Returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        for name in self.on_demand:
            state.hold(self.layout.home, name)
            self.ready[name].set()
        self._write()
        keepers = [asyncio.create_task(self._keep(node), name=node.name) for node in self.nodes]
        stop = asyncio.create_task(self.stopping.wait())
        everything = asyncio.create_task(self._all_ready())
        pending: set[asyncio.Task[Any]] = {stop, everything, *keepers}
        failure = ""
        while not self.stopping.is_set() and not failure:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            failure = next((f"{task.get_name()}: {task.exception()}" for task in done if task.exception()), "")
            if everything in done:
                self._write(state="ready")
        self.stopping.set()
        self._write(state="failed" if failure else "stopping", why=failure)
        await self._stop_all()
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return 1 if failure else 0

    async def _all_ready(self) -> None:
        for event in self.ready.values():
            await event.wait()

    async def _keep(self, node: Service | Task) -> None:
        for name in node.after:
            await self.ready[name].wait()
        if self.stopping.is_set():
            return
        if isinstance(node, Task):
            await self._do(node)
        else:
            await self._serve(node)

    async def _do(self, task: Task) -> None:
        self._note(task.name, state="starting")
        try:
            if await asyncio.to_thread(task.skip):
                pass
            elif task.function is not None:
                await asyncio.wait_for(asyncio.to_thread(task.function, self.layout), TASK_WITHIN_S)
            else:
                process = await self._spawn(task.name, task.command, dict(task.environment), None)
                status = await asyncio.wait_for(process.wait(), TASK_WITHIN_S)
                self.running.pop(task.name, None)
                if self.stopping.is_set():
                    # It was ended with everything else, so it is not done.
                    self._note(task.name, state="stopped", process="")
                    return
                if status:
                    raise StartFailed(f"{task.name} ended with {status}; its last words: {self._last_words(task.name)}")
        except TimeoutError as error:
            raise StartFailed(f"{task.name} did not end within {TASK_WITHIN_S:.0f} s") from error
        self._note(task.name, state="done", process="")
        self.ready[task.name].set()

    async def _serve(self, service: Service) -> None:
        delay = 0.0
        command = ("nice", "-n", str(service.niceness), *service.command)
        while True:
            await self._while_held(service.name)
            if self.stopping.is_set():
                break
            began = time.monotonic()
            process = await self._spawn(service.name, command, dict(service.environment), service.account)
            ended = asyncio.create_task(process.wait())
            await self._until_ready(service, ended)
            status = await ended
            # What it started and left would hold its port.
            _end_group(process.pid)
            self.running.pop(service.name, None)
            if self.stopping.is_set():
                break
            if service.name in self.on_demand and state.held(self.layout.home, service.name):
                # Whoever held it ended it: it has not failed.
                self._note(service.name, state="waiting", process="", restarts=0, last="")
                delay = 0.0
                continue
            delay = 0.0 if time.monotonic() - began > _CALM_S else delay
            current = self.state.services[service.name]
            self._note(service.name, state="restarting", process="", restarts=current.restarts + 1, last=f"ended with {status}")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), delay)
            delay = min(max(_FIRST_DELAY_S, delay * 2), _LONGEST_DELAY_S)
        self._note(service.name, state="stopped", process="")

    async def _while_held(self, name: str) -> None:
        """A lost host does not come back by itself: the drill that took it away says when."""
        while state.held(self.layout.home, name) and not self.stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 0.1)

    async def _until_ready(self, service: Service, ended: asyncio.Task[int]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not ended.done() and not self.stopping.is_set():
            seen = await asyncio.to_thread(service.check)
            if not seen:
                self._note(service.name, state="ready", last="")
                self.ready[service.name].set()
                return
            self._note(service.name, state="starting", last=seen)
            # A service that was ready once is waited for without end; one that never was fails the start.
            if time.monotonic() > deadline and not self.ready[service.name].is_set():
                raise StartFailed(
                    f"{service.name} was not ready within {READY_WITHIN_S:.0f} s; last seen: {seen}; "
                    f"its last words: {self._last_words(service.name)}"
                )
            await asyncio.wait({ended}, timeout=0.1)
        never = ended.done() and not self.stopping.is_set() and not self.ready[service.name].is_set()
        if never and self.state.services[service.name].restarts >= START_ATTEMPTS:
            raise StartFailed(f"{service.name} keeps ending; its last words: {self._last_words(service.name)}")

    async def _spawn(self, name: str, command: tuple[str, ...], environment: dict[str, str], account: str | None) -> Process:
        self._note(name, state="starting")
        with self._log(name) as log:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, cwd=self.layout.run, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **files.run_as(account),
            )  # fmt: skip
        self.running[name] = process
        self._note(name, process=processes.identity(process.pid))
        if self.stopping.is_set() or (name in self.on_demand and state.held(self.layout.home, name)):
            # Whoever stops everything, or holds this one, may have looked for a process while it was being made.
            _end_group(process.pid)
        return process

    async def _stop_all(self) -> None:
        """Each node once nothing needs it any more; what does not need each other ends at the same time."""
        ended = {node.name: asyncio.Event() for node in self.nodes}

        async def stop(node: Service | Task) -> None:
            for other in self.nodes:
                if node.name in other.after:
                    await ended[other.name].wait()
            await self._end(node)
            ended[node.name].set()

        await asyncio.gather(*map(stop, self.nodes))

    async def _end(self, node: Service | Task) -> None:
        process = self.running.get(node.name)
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(node.stop_signal if isinstance(node, Service) else signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        _end_group(process.pid)
        await process.wait()

    def _log(self, name: str) -> IO[bytes]:
        path = self.layout.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _last_words(self, name: str) -> str:
        path = self.layout.logs / f"{name}.log"
        words = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
        return words[-800:] or "none"

    def _note(self, name: str, **changes: str | int) -> None:
        service = self.state.services[name]
        before = (service.state, service.process, service.restarts, service.last)
        for key, value in changes.items():
            setattr(service, key, value)
        if before != (service.state, service.process, service.restarts, service.last):
            self._write()

    def _write(self, **changes: str) -> None:
        for key, value in changes.items():
            setattr(self.state, key, value)
        state.write(self.layout.home, self.state)


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _allow_many_files() -> None:
    # Many systems allow 1024 open files unless asked for more; an ingress that holds 600 requests needs two for each.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def main() -> int:
    """Run one system until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--replicas", type=int, required=True)
    parser.add_argument("--parts", choices=get_args(Parts), required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--synchronous", choices=get_args(Synchronous), required=True)
    options = parser.parse_args()
    home: Path = options.home
    _allow_many_files()
    replicas = replica_names(options.replicas)
    remembered = home / "data" / "first-port"
    kept = int(remembered.read_text(encoding="utf-8")) if remembered.exists() else None
    ports, claim = claim_ports(home, replicas, kept)
    account = unprivileged_account()
    layout = Layout(home, options.tools, ports, replicas, account, options.parts, options.variant, options.synchronous)
    with claim:
        prepare.folders(layout)
        remembered.write_text(str(claim.getsockname()[1]), encoding="utf-8")
        prepare.passwords(layout)
        database.folders(layout, prepare.certificates(layout))
        return asyncio.run(Supervisor(layout, nodes(layout)).run())


if __name__ == "__main__":
    sys.exit(main())
