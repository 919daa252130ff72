"""Readiness over real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from sre.targets.kubernetes.readiness import PATH, Readiness


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.keep, self.seen = 200, True, 0
        self.answers = Event()
        self.answers.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.seen += 1
        self.server.answers.wait(30)
        self.send_response(self.server.status if self.path == PATH else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        with suppress(ConnectionError):  # who asked has not waited
            self.wfile.write(b"ok")
        self.close_connection = not self.server.keep

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _serving() -> Iterator[_Server]:
    with _Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.answers.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def servers() -> Iterator[dict[str, _Server]]:
    with _serving() as first, _serving() as second:
        yield {"a": first, "b": second}


@pytest.fixture
def made() -> list[str]:
    """Pods that a connection was made to."""
    return []


@pytest.fixture
def readiness(servers: dict[str, _Server], made: list[str]) -> Iterator[Readiness]:
    def connect(pod: str) -> socket.socket:
        made.append(pod)
        if pod not in servers:
            raise ConnectionRefusedError("no such pod")
        return socket.create_connection(("127.0.0.1", servers[pod].server_port))

    readiness = Readiness(connect)
    yield readiness
    readiness.close()


def test_each_is_asked_and_connections_are_kept(readiness: Readiness, servers: dict[str, _Server], made: list[str]) -> None:
    servers["b"].status = 503
    for _ in range(3):
        assert readiness.ask([("a", "1"), ("b", "1")]) == (True, False)
    assert sorted(made) == ["a", "b"]
    assert (servers["a"].seen, servers["b"].seen) == (3, 3)


def test_what_a_ready_one_says_is_told(readiness: Readiness, servers: dict[str, _Server]) -> None:
    servers["b"].status = 503
    assert readiness.answers([("a", "1"), ("b", "1"), ("gone", "1")]) == (b"ok", None, None)


def test_who_answers_and_closes_is_connected_to_again(readiness: Readiness, servers: dict[str, _Server], made: list[str]) -> None:
    servers["a"].keep = False
    for _ in range(3):
        assert readiness.ask([("a", "1")]) == (True,)
    assert made == ["a", "a", "a"]


def test_a_new_container_gets_a_new_connection(readiness: Readiness, made: list[str]) -> None:
    assert readiness.ask([("a", "1")]) == (True,)
    assert readiness.ask([("a", "2")]) == (True,)
    assert made == ["a", "a"]


def test_who_does_not_answer_in_time_is_not_ready_and_is_asked_anew(readiness: Readiness, servers: dict[str, _Server]) -> None:
    assert readiness.ask([("a", "1"), ("b", "1")]) == (True, True)
    servers["a"].answers.clear()
    assert readiness.ask([("a", "1"), ("b", "1")]) == (False, True)
    servers["a"].answers.set()
    assert readiness.ask([("a", "1"), ("b", "1")]) == (True, True)


def test_who_cannot_be_connected_to_is_not_ready(readiness: Readiness) -> None:
    assert readiness.ask([("gone", "1"), ("a", "1")]) == (False, True)
    assert readiness.ask([]) == ()


def test_who_keeps_waiting_while_connecting_holds_up_the_others_once_only(servers: dict[str, _Server]) -> None:
    opened, asked = Event(), []

    def connect(pod: str) -> socket.socket:
        asked.append(pod)
        if pod == "b":
            opened.wait(30)
        return socket.create_connection(("127.0.0.1", servers[pod].server_address[1]))

    readiness = Readiness(connect)
    both = [("a", "1"), ("b", "1")]
    assert readiness.ask(both) == (True, False)
    for _ in range(20):
        assert readiness.ask(both) == (True, False)
    # It is still the first attempt that waits.
    assert sorted(asked) == ["a", "b"]
    opened.set()
    readiness.ask([("a", "1")])
    readiness.close()
