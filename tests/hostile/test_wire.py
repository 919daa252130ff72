"""Abuse by raw sockets of a real serving process: it answers by the rules, ends what does not end, and stays small."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.serving.conftest import KEY, picture, place, registry

__all__ = ["place", "registry"]  # the fixtures of the serving tests

TIMEOUT_S = 1
SWEEP_S, LINGER_S, SLACK_S = 1, 5, 4  # the machine may be busy; what never ends would not end within this either
GROWTH_MB = 20
HOST = b"Host: x\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\n" + HOST
LAST = LIVE + b"Connection: close\r\n\r\n"
PREDICT = b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Type: image/jpeg\r\nX-API-Key: " + KEY.encode() + b"\r\n"
IMAGE = picture()
GOOD = PREDICT + b"Content-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE
CHUNKED = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n"
CODES = {"malformed-request", "head-too-large", "slow-request", "payload-too-large", "overloaded", "bad-request", "invalid-image",
         "unauthorized", "unsupported-media-type", "not-found", "method-not-allowed"}  # fmt: skip


@dataclass
class Server:
    """One process for all tests here: each leaves it as it was."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self, within_s: float = 10) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=within_s)

    def talk(self, data: bytes, *, half_close: bool = False, within_s: float = 10) -> list[tuple[int, str]]:
        """Send all, read until the server ends the connection: the status and the problem's code of each answer."""
        with self.connect(within_s) as client:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            return answers(read_all(client))

    def good(self) -> None:
        """A client that keeps the rules is served."""
        assert self.talk(GOOD + LAST) == [(200, ""), (200, "")]

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.popen.pid}/fd").iterdir())


def read_all(client: socket.socket) -> bytes:
    data = b""
    while chunk := client.recv(65_536):
        data += chunk
    return data


def answers(data: bytes) -> list[tuple[int, str]]:
    """Each answer of a stream that holds nothing else; a refusal is a problem with a known code."""
    found = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        assert separator, data
        first, *lines = head.decode().split("\r\n")
        if first == "HTTP/1.1 100 Continue":
            data = rest
            continue
        fields = dict(line.lower().split(": ", 1) for line in lines)
        length = int(fields["content-length"])
        body, data = rest[:length], rest[length:]
        assert len(body) == length
        status = int(first.split()[1])
        assert status < 500 or status == 503, body
        code = ""
        if status >= 400:
            assert fields["content-type"] == "application/problem+json"
            code = json.loads(body)["code"]
            assert code in CODES
        found.append((status, code))
    return found


_running: list[Server] = []


@pytest.fixture
def server(place: Any, registry: Any, tmp_path: Path) -> Iterator[Server]:
    if not _running:
        place.publish()
        _running.append(start(place.environment(header_timeout_s=TIMEOUT_S, body_timeout_s=TIMEOUT_S), tmp_path / "log"))
    server = _running[0]
    before_mb, before = server.rss_mb(), server.files()
    yield server
    server.good()
    deadline = time.monotonic() + 2 * TIMEOUT_S + SWEEP_S + LINGER_S + SLACK_S
    while server.files() > before:
        assert time.monotonic() < deadline, f"{server.files()} open files, {before} before: connections are left behind"
        time.sleep(0.05)
    assert server.rss_mb() - before_mb < GROWTH_MB


def start(environment: dict[str, str], log: Path) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [sys.executable, "-m", "system", "serve"],
            env={**os.environ, **environment, "ML_PORT": str(port)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    server = Server(popen, port, log)
    deadline, last = time.monotonic() + 30, b"nothing"
    while b" 200 " not in last[:15]:
        assert time.monotonic() < deadline, f"not ready within 30 s (last: {last!r})\n{log.read_text()}"
        time.sleep(0.05)
        try:
            with server.connect() as client:
                client.sendall(b"GET /health/ready HTTP/1.0\r\n\r\n")
                last = read_all(client)
        except OSError as error:
            last = repr(error).encode()
    for _ in range(100):  # allocators and caches have their size before the first measurement
        server.good()
    return server


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    if _running:
        server = _running.pop()
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(30) == 0
        for line in server.log.read_text().splitlines():
            entry = json.loads(line)
            assert "stack" not in entry, line
            assert "request failed" not in entry["message"], line


def test_slow_heads_are_ended_and_a_good_client_is_served_meanwhile(server: Server) -> None:
    clients = [server.connect() for _ in range(200)]
    served = 0
    deadline = time.monotonic() + TIMEOUT_S + SWEEP_S + SLACK_S
    heads = [iter(LIVE * 100) for _ in clients]
    ended: list[bytes] = []
    while clients:
        assert time.monotonic() < deadline, f"{len(clients)} slow clients are still connected"
        for client, head in list(zip(clients, heads, strict=True)):
            try:
                client.send(bytes([next(head)]))
                client.settimeout(0.0001)
                answer = client.recv(65_536)
            except TimeoutError:
                continue
            ended.append(answer)
            index = clients.index(client)
            clients.pop(index).close()
            heads.pop(index)
        server.good()
        served += 1
    assert served > 1
    assert [answers(answer) for answer in ended] == [[(408, "slow-request")]] * 200


def test_slow_bodies_are_ended_and_a_good_client_is_served_meanwhile(server: Server) -> None:
    clients = [server.connect() for _ in range(100)]
    for client in clients:
        client.sendall(PREDICT + b"Content-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE[:10])
    server.good()
    for client in clients:
        assert answers(read_all(client)) == [(408, "slow-request")]
        client.close()


ENDLESS = {
    "header fields": (LIVE, b"X: " + b"a" * 61 + b"\r\n", 431),
    "one header field": (LIVE + b"X: ", b"a" * 64, 431),
    "empty lines": (b"", b"\r\n" * 32, 431),
    "a request target": (b"GET /", b"a" * 64, 431),
    "a chunked body": (CHUNKED, b"40\r\n" + b"a" * 64 + b"\r\n", 413),
    "a chunk extension": (CHUNKED + b"1;", b"a" * 64, 431),
    "a trailer": (CHUNKED + b"1\r\na\r\n0\r\n", b"X: " + b"a" * 61 + b"\r\n", 431),
    "a declared body": (PREDICT + b"Content-Length: 1000000000000\r\n\r\n", b"a" * 64, 413),
    "a body that nobody reads": (b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000000\r\n\r\n", b"a" * 64, 404),
}


def test_what_does_not_end_is_refused_and_then_cut_off(server: Server) -> None:
    def abuse(head: bytes, again: bytes) -> list[tuple[int, str]]:
        """Send without end and listen meanwhile, until the server ends it."""
        deadline = time.monotonic() + 2 * TIMEOUT_S + SWEEP_S + LINGER_S + SLACK_S
        heard = b""
        with server.connect() as client, suppress(ConnectionError):
            client.sendall(head)
            client.setblocking(False)
            while time.monotonic() < deadline:
                readable, writable, _ = select.select([client], [client], [], 0.1)
                if readable:
                    heard += client.recv(65_536)
                if writable:
                    client.send(again * 1000)
                time.sleep(0.002)
            pytest.fail(f"may still send after {answers(heard)}")
        return answers(heard)

    with ThreadPoolExecutor(len(ENDLESS)) as pool:
        heard = list(pool.map(lambda case: abuse(*case[:2]), ENDLESS.values()))
    assert [[status for status, _ in answered] for answered in heard] == [[status] for *_, status in ENDLESS.values()]


@pytest.mark.parametrize("head", [PREDICT, PREDICT.replace(KEY.encode(), b"unknown"), b"POST /nothing HTTP/1.1\r\n" + HOST])
def test_fifty_megabytes_are_refused_and_the_refusal_is_heard(server: Server, head: bytes) -> None:
    status = 413 if head is PREDICT else 401 if b"unknown" in head else 404
    body = b"a" * 50_000_000
    declared = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    for data in (declared, chunked):
        with server.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert [found for found, _ in answers(read_all(client))] == [status]


def test_a_hundred_requests_in_one_write_get_a_hundred_answers(server: Server) -> None:
    assert server.talk(GOOD * 50 + (LIVE + b"\r\n") * 50 + LAST) == [(200, "")] * 101


def test_a_client_that_reads_no_answers_is_cut_off(server: Server) -> None:
    deadline = time.monotonic() + TIMEOUT_S + 2 * SWEEP_S + SLACK_S
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(0.1)
        while True:
            assert time.monotonic() < deadline, "a client that does not read is still connected"
            try:
                client.send(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n")
            except TimeoutError:
                server.good()
            except ConnectionError:
                return


def test_clients_that_have_said_all_or_nothing(server: Server) -> None:
    assert server.talk(GOOD + LIVE + b"\r\n", half_close=True) == [(200, ""), (200, "")]
    assert server.talk(GOOD[:-1], half_close=True) == []
    assert server.talk(LIVE, half_close=True) == []
    assert server.talk(b"", half_close=True) == []
    assert server.talk(b"") == []
    assert server.talk(LIVE + b"\r\n" + LIVE) == [(200, ""), (408, "slow-request")]


@pytest.mark.parametrize("cut", [len(PREDICT) // 2, len(PREDICT), len(GOOD) - 10])
def test_resets_in_the_middle_leave_nothing(server: Server, cut: int) -> None:
    for _ in range(50):
        with server.connect() as client:
            client.sendall(GOOD * 2 + GOOD[:cut])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


MALFORMED = {
    "TLS": bytes.fromhex("16030102000100") + bytes(random.Random(1).randbytes(500)),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "a length that is no number": PREDICT + b"Content-Length: 1e3\r\n\r\n" + IMAGE,
    "a length of words": PREDICT + b"Content-Length: many\r\n\r\n" + IMAGE,
    "a length with an underscore": PREDICT + b"Content-Length: 1_000\r\n\r\n" + IMAGE,
    "a chunk size that is none": CHUNKED + b"nonsense\r\n" + IMAGE,
    "a chunk size below nought": CHUNKED + b"-1\r\n" + IMAGE,
    "chunks without an end": CHUNKED + b"3\r\nabcdef\r\n",
    "a length and chunks": PREDICT + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=list(MALFORMED))
def test_what_is_not_http_gets_one_answer_and_the_end(server: Server, data: bytes) -> None:
    assert server.talk(data + LAST) == [(400, "malformed-request")]
    assert server.talk(GOOD + data + LAST) == [(200, ""), (400, "malformed-request")]


def test_two_thousand_random_requests_hang_nothing_and_break_nothing(server: Server) -> None:
    rng = random.Random(20_260_101)

    def noise() -> bytes:
        return rng.randbytes(rng.randint(1, 600))

    def mutation() -> bytes:
        data = bytearray(rng.choice([GOOD, LIVE + b"\r\n", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"]))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(min(len(data), 300))
            data[at : at + rng.choice([0, 1, 1, 8])] = rng.randbytes(rng.choice([0, 1, 1, 8]))
        return bytes(data)

    makers: list[Callable[[], bytes]] = [noise, mutation]
    seen = [server.talk(makers[number % 2](), half_close=True) for number in range(2000)]
    statuses = {status for answered in seen for status, _ in answered}
    assert statuses >= {200, 400}
