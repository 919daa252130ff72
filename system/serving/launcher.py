"""One serving process: its socket, its server, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from system.config import ServeSettings
from system.errors import MlSystemError
from system.serving.app import create_app
from system.serving.protocol import SWEEP_S, Protocol, sweep
from system.serving.service import Service

log = logging.getLogger(__name__)

DRAIN_S = 20
_KEEP_ALIVE_S = 75  # longer than the ingress keeps its side, so that it never writes into a closing connection
_BACKLOG = 2048
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ACCEPTED_AT_ONCE = 64
_ACCEPT_PAUSE_S = 1.0
_OTHER_FILES = 256  # that a process has open besides its connections


class AddressInUse(MlSystemError):
    """Another process listens on the port."""


class _Server(uvicorn.Server):
    """uvicorn, ended by SIGTERM with exit status 0 after draining, where uvicorn would let the signal kill it at the end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._arriving: set[asyncio.Task[Any]] = set()
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
        """Listen by a reader of our own: libuv takes one connection in a pass of its loop, and a pass of a busy one is long."""
        await super().startup([])
        self._sweeper = asyncio.create_task(self._sweep())
        for listener in sockets or []:
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no file or no memory is left: not to be asked again in every pass
                log.error("no connection is taken for %.0f s: %s", _ACCEPT_PAUSE_S, error.strerror)  # noqa: TRY400
                loop.remove_reader(listener)
                loop.call_later(_ACCEPT_PAUSE_S, self._accept_again, listener)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:  # else it was closed meanwhile
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _protocol(self) -> asyncio.Protocol:
        state, app_state = self.server_state, self.lifespan.state
        return Protocol(self._service.settings, config=self.config, server_state=state, app_state=app_state)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            sweep(self.server_state.connections, asyncio.get_running_loop().time())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Balancers get time to learn of it: connections are still taken, and closed by their answers, before the port closes."""
        await asyncio.sleep(self._service.settings.drain_pause_s)
        for listener in sockets or []:
            asyncio.get_running_loop().remove_reader(listener)
        await super().shutdown(sockets)
        self._sweeper.cancel()


def run(settings: ServeSettings, *, shared: bool) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight and write the prediction log.

    Args:
        settings: of the replica.
        shared: whether other processes do so on the same port.

    Raises:
        AddressInUse: a stranger listens there.
        ValueError: the file of API keys is missing or malformed.
    """
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
    with bind(settings, shared=shared) as listener:
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


def bind(settings: ServeSettings, *, shared: bool) -> socket.socket:
    """A socket on the port that settings name, alone or beside others of this user.

    Raises:
        AddressInUse: another process listens there.
    """
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
