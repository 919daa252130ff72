"""Agents that speak TLS with a certificate of an authority, over real sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sre.targets.certificates import Authority
from sre.targets.kubernetes.agents import Agents

ANSWERS = {"/cluster": (200, b'{"members": []}'), "/liveness": (503, b"")}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def authority() -> Authority:
    return Authority("test", timedelta(days=1))


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.pem)
    return file


def _served(authority: Authority, folder: Path, name: str) -> Iterator[tuple[str, int]]:
    certificate, key = authority.issue(name, hosts=(name,))
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_text(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def agent(authority: Authority, tmp_path: Path) -> Iterator[tuple[str, int]]:
    yield from _served(authority, tmp_path, "localhost")


@pytest.fixture
def stranger(authority: Authority, tmp_path: Path) -> Iterator[tuple[str, int]]:
    yield from _served(authority, tmp_path, "other.example")


def test_an_agent_answers_with_its_status_and_what_it_says(agent: tuple[str, int], ca_file: Path) -> None:
    asked = []

    def connect(member: str) -> socket.socket:
        asked.append(member)
        return socket.create_connection(agent)

    agents = Agents(connect, ca_file)
    assert agents.ask("postgres-1", "/cluster") == (200, {"members": []})
    assert agents.ask("postgres-2", "/liveness") == (503, None)
    assert asked == ["postgres-1", "postgres-2"]


def test_who_cannot_prove_to_be_one_of_the_agents_is_not_believed(stranger: tuple[str, int], ca_file: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Agents(lambda _: socket.create_connection(stranger), ca_file).ask("postgres-1", "/cluster")


def test_a_connection_that_ends_is_an_error(ca_file: Path) -> None:
    near, far = socket.socketpair()
    far.close()
    with pytest.raises(OSError, match=r"EOF|closed|reset|pipe"):
        Agents(lambda _: near, ca_file).ask("postgres-1", "/cluster")
