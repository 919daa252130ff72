"""Asks replicas whether they are ready, through their nodes: what the kubelet remembers is up to two probes old."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from socket import socket

PATH = "/health/ready"
ANSWER_WITHIN_S = 1.0

Connect = Callable[[str], socket]


class Readiness:
    """Keeps one connection to each replica, since making one costs many times as much as asking.

    Args:
        connect: to the port of a pod, by the pod's name. Raises OSError when it cannot.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._kept: dict[tuple[str, str], _Connection] = {}

    def ask(self, replicas: Sequence[tuple[str, str]]) -> tuple[bool, ...]:
        """Whether each answers 200 just now; all are asked at once, and none is waited for longer than a second.

        Args:
            replicas: pod and identity of each. A pod whose container was replaced gets a new connection.
        """
        for gone in self._kept.keys() - set(replicas):
            self._kept.pop(gone).close()
        asked = [self._kept.setdefault(one, _Connection(one[0], self._connect)) for one in replicas]
        with ThreadPoolExecutor(max(len(asked), 1)) as pool:
            return tuple(pool.map(_Connection.ready, asked))

    def close(self) -> None:
        """Give up the connections that are kept."""
        while self._kept:
            self._kept.popitem()[1].close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, pod: str, connect: Connect) -> None:
        super().__init__(pod, timeout=ANSWER_WITHIN_S)
        self._connect = connect

    def connect(self) -> None:
        self.sock = self._connect(self.host)
        self.sock.settimeout(ANSWER_WITHIN_S)

    def ready(self) -> bool:
        fresh = self.sock is None
        answered = self._status()
        # A connection that was kept may have been closed meanwhile, which says nothing of the replica.
        if answered is None and not fresh:
            answered = self._status()
        return answered == http.client.OK

    def _status(self) -> int | None:
        try:
            self.request("GET", PATH, headers={"Host": "localhost"})
            answer = self.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            with suppress(OSError):
                self.close()
            return 0 if isinstance(error, TimeoutError) else None
        return answer.status
