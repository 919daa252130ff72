"""A port of this machine that leads to a pod: for what only listens inside the cluster. It ends with the process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

_CHUNK = 65_536


class Forward:
    """Listens on a free port of this machine.

    Args:
        connect: makes a connection to the pod, one for each that comes here. Raises OSError when it cannot.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._accepting = Thread(target=self._accept, name="forward", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Take no more connections; those that are open end with their users."""
        with suppress(OSError):
            # Closing alone would not wake up who waits in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._carry, args=(near,), name="forwarded", daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = self._connect()
        except OSError:
            near.close()
            return
        back = Thread(target=_copy, args=(far, near), name="forwarded back", daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        near.close()
        far.close()


def _copy(source: socket.socket, to: socket.socket) -> None:
    """Until one of the two ends; then neither can be used any more."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            to.sendall(data)
    for one in (source, to):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
