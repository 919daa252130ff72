"""A port of this machine that leads elsewhere, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from sre.targets.kubernetes.forward import Forward


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that answers what it is sent, then ends the connection."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            with one:
                one.sendall(one.recv(100) * 50_000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[:2]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _asked(url: str) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as one:
        one.sendall(b"hello")
        found = b""
        while more := one.recv(65_536):
            found += more
    return found


def test_what_is_sent_arrives_and_the_answer_comes_back_whole(echo: tuple[str, int]) -> None:
    forward = Forward(lambda: socket.create_connection(echo))
    try:
        assert forward.url == f"http://127.0.0.1:{forward.port}"
        for _ in range(3):
            assert _asked(forward.url) == b"hello" * 50_000
    finally:
        forward.close()
    with pytest.raises(ConnectionRefusedError):
        _asked(forward.url)


def test_without_the_other_side_the_connection_ends() -> None:
    def refuse() -> socket.socket:
        raise ConnectionRefusedError("no pod")

    forward = Forward(refuse)
    host, port = forward.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as one:
        assert one.recv(1) == b""
    forward.close()
