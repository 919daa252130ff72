"""Processes and sockets: one process per core, each with a listening socket of its own.

Several processes that accept from one socket share connections unevenly, often all on one of them. With SO_REUSEPORT the kernel
spreads them. One worker needs none of it and runs in this process.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from system.config import ServeSettings
from system.errors import MlSystemError
from system.serving.app import FLUSH_S, create_app
from system.serving.protocol import SWEEP_S, Protocol, sweep
from system.serving.service import Service

log = logging.getLogger(__name__)

DRAIN_S = 20
_KEEP_ALIVE_S = 75  # longer than the ingress keeps its side, so that it never writes into a closing connection
_BACKLOG = 2048
_RESTART_PAUSE_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OTHER_FILES = 256  # that a process has open besides its connections


class AddressInUse(MlSystemError):
    """Another process listens on the port."""


class _Server(uvicorn.Server):
    """uvicorn, ended by SIGTERM with exit status 0 after draining, where uvicorn would let the signal kill it at the end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        service.turns.in_flight = self.server_state.tasks.__len__

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the process is about to end well

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.draining = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeper = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            sweep(self.server_state.connections, asyncio.get_running_loop().time())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Balancers get time to learn of it: connections are still taken, and closed by their answers, before the port closes."""
        await asyncio.sleep(self._service.settings.drain_pause_s)
        await super().shutdown(sockets)
        self._sweeper.cancel()


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight and write the prediction log.

    Raises:
        AddressInUse: another process listens there.
        ValueError: the file of API keys is missing or malformed.
    """
    _end_on_signals()
    if settings.workers == 1:
        _run(settings, shared=False)
    else:
        _supervise(settings)


def serve_as_worker(settings: ServeSettings) -> None:
    """One of several processes on the port. It drains when its standard input ends: its parent is gone."""
    _end_on_signals()

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin: the lock of its buffer would be held when the interpreter ends
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    _run(settings, shared=True)


def _end_on_signals() -> None:
    """Until there is something to drain, the process just ends."""

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for number in _SIGNALS:
        signal.signal(number, end)


def _run(settings: ServeSettings, *, shared: bool) -> None:
    _allow_files(settings.max_connections + _OTHER_FILES)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(Protocol, settings),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    with _bind(settings, shared=shared) as listener:
        listener.listen(_BACKLOG)
        log.info("listening on %s port %d", settings.host, settings.port)
        _Server(config, app.state.service).run(sockets=[listener])
    log.info("drained and stopped")


def _allow_files(count: int) -> None:
    """Raise this process's limit of open files to `count`, or as near as the system lets it: 1024 is common, and too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bind(settings: ServeSettings, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        where = f"ML_HOST {settings.host} ML_PORT {settings.port}"
        raise AddressInUse(f"cannot listen on {where}: {error.strerror}; stop what holds it or choose another port") from None
    return listener


def _supervise(settings: ServeSettings) -> None:
    create_app(settings)  # says what is wrong once, not once per worker
    _bind(settings, shared=False).close()  # SO_REUSEPORT would silently share the port with a stranger
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in _SIGNALS:
        signal.signal(number, stop)
    # bound and never listening: holds the port for the workers, gets no connection
    with _bind(settings, shared=True), _metrics_folder(settings.cache_dir / "metrics") as metrics:
        workers = [_start_worker(metrics) for _ in range(settings.workers)]
        while not stopping:
            time.sleep(0.1)
            for index, worker in enumerate(workers):
                if worker.poll() is not None and not stopping:
                    log.error("worker %d ended with status %d; starting another", worker.pid, worker.returncode)
                    mark_process_dead(worker.pid, metrics)  # type: ignore[no-untyped-call]
                    time.sleep(_RESTART_PAUSE_S)
                    workers[index] = _start_worker(metrics)
        _drain(workers, settings.drain_pause_s)


@contextmanager
def _metrics_folder(parent: Path) -> Iterator[str]:
    """A folder for the metrics that the workers share. What launchers left that were killed goes: nobody holds a lock on it."""
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with _locked(parent):
            for left in parent.iterdir():
                with suppress(BlockingIOError, FileNotFoundError), _locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left)
            folder = Path(tempfile.mkdtemp(dir=parent))
            held.enter_context(_locked(folder))
        held.callback(shutil.rmtree, folder)
        yield str(folder)


@contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    """Holds the lock of a folder, which ends with the process however that ends.

    Raises:
        BlockingIOError: another holds it, and `flags` say not to wait.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(file)


def _start_worker(metrics: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": metrics}
    return subprocess.Popen([sys.executable, "-m", "system", "serve", "--worker"], stdin=subprocess.PIPE, env=environment)


def _drain(workers: list[subprocess.Popen[bytes]], pause_s: float) -> None:
    for worker in workers:
        worker.terminate()
    give_up_at = time.monotonic() + pause_s + DRAIN_S + FLUSH_S + 2
    for worker in workers:
        try:
            worker.wait(max(0.0, give_up_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("worker %d did not drain in time; killing it", worker.pid)  # noqa: TRY400 - the trace says nothing more
            worker.kill()
            worker.wait()
