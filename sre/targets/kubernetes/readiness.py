"""Asks replicas whether they are ready, through their nodes: what the kubelet remembers is up to two probes old."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from socket import socket

PATH = "/health/ready"
ANSWER_WITHIN_S = 1.0
GRACE_S = 0.2  # in which who was not answered in time says so
MADE_WITHIN_S = 3.0
# More than there are replicas, also while as many are on their way out.
POOL = 64

Connect = Callable[[str], socket]


class Readiness:
    """Keeps one connection to each replica, since making one costs many times as much as asking.

    Args:
        connect: to the port of a pod, by the pod's name. Raises OSError when it cannot.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._kept: dict[tuple[str, str], _Connection] = {}
        self._asked: dict[tuple[str, str], Future[bytes | None]] = {}
        self._pool = ThreadPoolExecutor(POOL)

    def ask(self, replicas: Sequence[tuple[str, str]]) -> tuple[bool, ...]:
        """Whether each answers 200 just now; see `answers`."""
        return tuple(answer is not None for answer in self.answers(replicas))

    def answers(self, replicas: Sequence[tuple[str, str]]) -> tuple[bytes | None, ...]:
        """What each says that answers 200 just now, None for others. All are asked at once, none is waited for more than 1 s.

        The way to a lost node keeps who asks for longer: such a replica is asked again once that has ended, and not waited for.
        The first connection to a replica has more time.

        Args:
            replicas: pod and identity of each. A pod whose container was replaced gets a new connection.
        """
        for gone in self._kept.keys() - set(replicas):
            # Not before it has answered, if it was asked: the thread that asks uses the connection.
            self._pool.submit(_close, self._kept.pop(gone), self._asked.pop(gone, None))
        now = [one for one in replicas if one not in self._asked]
        asked = [self._kept.setdefault(one, _Connection(one[0], self._connect)) for one in now]
        limit = ANSWER_WITHIN_S + GRACE_S if all(connection.made for connection in asked) else MADE_WITHIN_S
        self._asked |= {one: self._pool.submit(connection.ask) for one, connection in zip(now, asked, strict=True)}
        done, _ = wait([self._asked[one] for one in now], timeout=limit)
        answers = tuple(self._asked[one].result() if self._asked[one] in done else None for one in replicas)
        self._asked = {one: asked for one, asked in self._asked.items() if not asked.done()}
        return answers

    def close(self) -> None:
        """Give up the connections that are kept."""
        self._pool.shutdown(cancel_futures=True)
        while self._kept:
            self._kept.popitem()[1].close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, pod: str, connect: Connect) -> None:
        super().__init__(pod, timeout=ANSWER_WITHIN_S)
        self._connect = connect
        self.made = False

    def connect(self) -> None:
        self.sock = self._connect(self.host)
        self.made = True
        self.sock.settimeout(ANSWER_WITHIN_S)

    def ask(self) -> bytes | None:
        fresh = self.sock is None
        answered = self._answer()
        # A connection that was kept may have been closed meanwhile, which says nothing of the replica.
        if answered is None and not fresh:
            answered = self._answer()
        status, body = answered or (0, b"")
        return body if status == http.client.OK else None

    def _answer(self) -> tuple[int, bytes] | None:
        try:
            self.request("GET", PATH, headers={"Host": "localhost"})
            answer = self.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            with suppress(OSError):
                self.close()
            return (0, b"") if isinstance(error, TimeoutError) else None


def _close(connection: _Connection, asked: Future[bytes | None] | None) -> None:
    if asked is not None:
        wait([asked])
    connection.close()
