"""Several processes on one port: one per core, forked from one that has imported everything, so that they share its memory.

Each has a listening socket of its own. Processes that accept from one socket share connections unevenly, often all on one of
them; with SO_REUSEPORT the kernel spreads them.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType
from typing import NoReturn

from system.config import ServeSettings

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_RESTART_PAUSE_S = 1.0
_FORK = multiprocessing.get_context("fork")


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT, with one process or with several of which one that ends is replaced.

    Raises:
        AddressInUse: another process listens there.
        ValueError: the file of API keys is missing or malformed.
    """
    for number in _SIGNALS:
        signal.signal(number, _end)
    if settings.workers == 1:
        from system.serving import launcher  # noqa: PLC0415 - several processes import it later
        from system.telemetry import configure_logging  # noqa: PLC0415 - the same

        configure_logging(settings.log_level, settings.replica)
        launcher.run(settings, shared=False)
    else:
        _supervise(settings)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Until there is something to drain, the process just ends."""
    raise SystemExit(0)


def _supervise(settings: ServeSettings) -> None:
    with _metrics_folder(settings.cache_dir / "metrics") as metrics:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # before anything imports the metrics, for it decides where they live
        from system.serving import launcher  # noqa: PLC0415 - see above
        from system.serving.app import create_app  # noqa: PLC0415 - the same
        from system.telemetry import configure_logging  # noqa: PLC0415 - the same

        configure_logging(settings.log_level, settings.replica)
        create_app(settings)  # says what is wrong once, not once per worker
        launcher.bind(settings, shared=False).close()  # SO_REUSEPORT would silently share the port with a stranger
        # bound and never listening: holds the port for the workers, gets no connection
        with launcher.bind(settings, shared=True):
            _Workers(settings, metrics).run()


class _Workers:
    """The processes, and the pipe by whose end they learn that this one is gone."""

    def __init__(self, settings: ServeSettings, metrics: str) -> None:
        self._settings = settings
        self._metrics = metrics
        self._stopping = False
        self._gone, self._here = os.pipe()

    def run(self) -> None:
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - it too looks for the metrics' folder

        for number in _SIGNALS:
            signal.signal(number, self._stop)
        gc.collect()
        gc.freeze()  # a collection in a worker would write into, and so copy, every page that it shares
        workers = [self._start() for _ in range(self._settings.workers)]
        while not self._stopping:
            time.sleep(0.1)
            for index, worker in enumerate(workers):
                if not worker.is_alive() and not self._stopping:
                    log.error("worker %d ended with status %d; starting another", worker.pid, worker.exitcode)
                    mark_process_dead(worker.pid, self._metrics)  # type: ignore[no-untyped-call]
                    time.sleep(_RESTART_PAUSE_S)
                    workers[index] = self._start()
        self._drain(workers)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> ForkProcess:
        worker = _FORK.Process(target=self._work)
        worker.start()
        return worker

    def _work(self) -> None:
        """In the worker: serve, and drain when the pipe ends."""
        from system.serving import launcher  # noqa: PLC0415 - imported long ago, see `_supervise`

        for number in _SIGNALS:
            signal.signal(number, _end)
        os.close(self._here)

        def watch() -> None:
            os.read(self._gone, 1)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, name="parent-watch", daemon=True).start()
        launcher.run(self._settings, shared=True)

    def _drain(self, workers: list[ForkProcess]) -> None:
        from system.serving.app import FLUSH_S  # noqa: PLC0415 - the same
        from system.serving.launcher import DRAIN_S  # noqa: PLC0415 - the same

        for worker in workers:
            worker.terminate()
        give_up_at = time.monotonic() + self._settings.drain_pause_s + DRAIN_S + FLUSH_S + 2
        for worker in workers:
            worker.join(max(0.0, give_up_at - time.monotonic()))
            if worker.is_alive():
                log.error("worker %d did not drain in time; killing it", worker.pid)
                worker.kill()
                worker.join()


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
    """Holds the lock of a folder, which ends with the process and its children however that ends.

    Raises:
        BlockingIOError: another holds it, and `flags` say not to wait.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(file)
