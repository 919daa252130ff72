"""The ingress template under a real nginx: over tiny upstreams that fail in chosen ways, and in front of the real system."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from sre.targets.local import prepare
from sre.targets.local.layout import Layout
from sre.targets.local.programs import find
from sre.targets.local.router import LocalRouter
from sre.targets.local.target import LocalTarget
from system import render
from tests.system.serving.conftest import place, registry

__all__ = ["place", "registry"]  # the fixtures of the serving tests

LIMIT = 1000
SECURITY = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Upstream:
    """A server that answers every request the same way and counts them.

    Args:
        answer: a status, or `close` (hangs up without a word) or `hang` (never answers).
    """

    def __init__(self, answer: int | str) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.pairs: list[list[tuple[str, str]]] = []
        outer, self._end = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append((self.path, body))
                outer.headers.append(dict(self.headers))
                outer.pairs.append(self.headers.items())
                if answer == "hang":
                    outer._end.wait(30)
                if isinstance(answer, str):
                    self.close_connection = True
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = handle_request  # noqa: N815 - the names that the server looks for

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """End it; its address refuses connections afterwards."""
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Ingress:
    """A running nginx and a client that trusts its certificate."""

    def __init__(self, layout: Layout, client: httpx.Client) -> None:
        self.layout, self.client = layout, client

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, over TLS; all that comes back until nginx ends the connection."""
        host, port = self.layout.address("ingress").split(":")
        context = ssl.create_default_context(cafile=self.layout.config / "ca.pem")
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            tls.sendall(data)
            heard = b""
            with suppress(ssl.SSLError, ConnectionError):
                while chunk := tls.recv(65_536):
                    heard += chunk
            return heard

    def predict(self, key: str = "k", body: bytes = b"image") -> httpx.Response:
        """One request as a user sends it."""
        return self.client.post("/predict", content=body, headers={"X-API-Key": key} if key else {})


Begin = Callable[..., Ingress]
Serve = Callable[[int | str], Upstream]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve() -> Iterator[Serve]:
    begun: list[Upstream] = []

    def make(answer: int | str) -> Upstream:
        begun.append(Upstream(answer))
        return begun[-1]

    yield make
    for upstream in begun:
        upstream.stop()


@pytest.fixture
def begin(programs: Path, open_folder: Path) -> Iterator[Begin]:
    """Starts nginx from the system's own template; it is gone afterwards."""
    processes: list[subprocess.Popen[bytes]] = []
    clients: list[httpx.Client] = []

    def start(*upstreams: str, arms: tuple[str, ...] = (), **changes: Any) -> Ingress:
        ports = {name: free_port() for name in ("ingress", "ingress-status")}
        layout = Layout(open_folder, programs, ports, (), None, "all")
        for folder in (layout.config, layout.run, layout.logs):
            folder.mkdir()
        layout.secrets.mkdir(mode=0o700)
        prepare.certificates(layout)
        values = {
            "run": str(layout.run), "logs": str(layout.logs),
            "serving": [{"name": f"serving-{number}", "address": address} for number, address in enumerate(upstreams, 1)],
            "arms": [
                {"name": f"{track}-1", "track": track, "address": address}
                for track, address in zip(("canary", "control"), arms, strict=False)
            ],
            "split": str(layout.split),
            "ingress": {
                "address": layout.address("ingress"), "status_address": layout.address("ingress-status"),
                "certificate": str(layout.config / "server.pem"), "certificate_key": str(layout.secrets / "server.key"),
                "user": "root" if os.geteuid() == 0 else "", "workers": 1, "rate_per_key": 1000, "burst_per_key": 1000,
                "max_body_bytes": LIMIT, "answer_timeout_s": 1, "failures_until_away": 1, "away_s": 1,
            } | changes,
        }  # fmt: skip
        (layout.config / "nginx.conf").write_text(render.render("nginx.conf", values))
        nginx = find("nginx", programs)
        command = [str(nginx.path), "-p", str(layout.run), "-c", str(layout.config / "nginx.conf"), "-e", "stderr"]
        with (layout.logs / "nginx.log").open("wb") as log:
            processes.append(subprocess.Popen(command, env={**os.environ, **nginx.environment}, stdout=log, stderr=log))
        deadline = time.monotonic() + 10
        while True:
            try:
                httpx.get(f"{layout.url('ingress-status')}/status", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, (layout.logs / "nginx.log").read_text()
                time.sleep(0.02)
        context = ssl.create_default_context(cafile=layout.config / "ca.pem")
        clients.append(httpx.Client(base_url=f"https://{layout.address('ingress')}", verify=context, trust_env=False, timeout=10))
        return Ingress(layout, clients[-1])

    yield start
    for client in clients:
        client.close()
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    """The one shape of a refusal: problem+json, with the header that keeps browsers on TLS."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "error", "code", "request_id"}
    assert (document["status"], document["code"], document["type"]) == (status, code, f"urn:ml-system:problem:{code}")
    assert document["request_id"] == answer.headers["x-request-id"]
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


REFUSALS = {
    "no HTTP": (b"nonsense\r\n\r\n", 400, "malformed-request"),
    "no Host": (b"GET /health/live HTTP/1.1\r\n\r\n", 400, "malformed-request"),
    "two Hosts": (b"GET /health/live HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "malformed-request"),
    "an unknown version": (b"GET /health/live HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed-request"),
    "an unknown coding": (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: cow\r\n\r\n", 400, "malformed-request",
    ),
    "a length and a coding": (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400, "malformed-request",
    ),
    "TRACE": (b"TRACE /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method-not-allowed"),
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "target-too-long"),
    "a long field": (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431, "head-too-large"),
    "many fields": (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X: aaaaaaaa\r\n" * 6000 + b"\r\n", 431, "head-too-large"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status", "code"), REFUSALS.values(), ids=list(REFUSALS))
def test_what_is_no_good_http_is_refused_in_the_one_shape_and_reaches_no_replica(
    begin: Begin, serve: Serve, data: bytes, status: int, code: str
) -> None:
    upstream = serve(200)
    head, _, body = begin(upstream.address).raw(data).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert int(first.split()[1]) == status
    answer = httpx.Response(status, headers=dict(line.split(": ", 1) for line in lines), content=body)
    refused(answer, status, code)
    assert not upstream.requests


@pytest.mark.parametrize("failure", [502, 503, "close", "hang", "refuse"])
def test_a_failed_replica_costs_no_user_an_answer(begin: Begin, serve: Serve, failure: int | str) -> None:
    well, ill = serve(200), serve("close" if failure == "refuse" else failure)
    if failure == "refuse":
        ill.stop()
    ingress = begin(ill.address, well.address)
    answers = [ingress.predict() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert well.requests == [("/predict", b"image")] * 4
    assert len(ill.requests) == (0 if failure == "refuse" else 1)


def test_what_a_replica_refuses_for_a_reason_is_not_asked_again(begin: Begin, serve: Serve) -> None:
    first, second = serve(500), serve(500)
    assert begin(first.address, second.address).predict().status_code == 500
    assert len(first.requests) + len(second.requests) == 1


def test_without_any_replica_the_refusal_says_when_to_come_back(begin: Begin, serve: Serve) -> None:
    gone = serve(200)
    gone.stop()
    answer = begin(gone.address).predict()
    refused(answer, 502, "no-replica")
    assert answer.headers["retry-after"] == "1"


def test_replicas_that_do_not_answer_in_time_are_given_up(begin: Begin, serve: Serve) -> None:
    answer = begin(serve("hang").address).predict()
    refused(answer, 504, "replica-timeout")
    assert answer.headers["retry-after"] == "1"


def shift(ingress: Ingress, canary: float, control: float) -> None:
    """Split the traffic as the router of a local system does, without the processes of one."""
    (ingress.layout.run / "canary").write_text("2")
    LocalRouter(ingress.layout).shift(canary, control)


def test_each_arm_gets_its_share_from_the_moment_of_the_shift(begin: Begin, serve: Serve) -> None:
    stable, canary, control = serve(200), serve(200), serve(200)
    ingress = begin(stable.address, arms=(canary.address, control.address), rate_per_key=5000)
    counts = []
    for shares in (None, (0.3, 0.2), (1.0, 0.0), (0.5, 0.5), (0.0, 0.0)):
        if shares is not None:
            shift(ingress, *shares)
        before = [len(one.requests) for one in (stable, canary, control)]
        for _ in range(100):
            assert ingress.predict().status_code == 200
        counts.append([len(one.requests) - was for one, was in zip((stable, canary, control), before, strict=True)])
    assert (counts[0], counts[2], counts[4]) == ([100, 0, 0], [0, 100, 0], [100, 0, 0])
    assert counts[3][0] == 0
    # Five standard deviations of a share that is drawn 100 times.
    assert counts[1] == pytest.approx([50, 30, 20], abs=25)
    assert counts[3] == pytest.approx([0, 50, 50], abs=25)


@pytest.mark.parametrize("failure", ["close", "hang", 502, 503])
def test_what_a_lost_canary_does_not_answer_the_replicas_do(begin: Begin, serve: Serve, failure: int | str) -> None:
    stable, canary, control = serve(200), serve(failure), serve(200)
    ingress = begin(stable.address, arms=(canary.address, control.address), failures_until_away=1000)
    shift(ingress, 1.0, 0.0)
    answers = [ingress.predict().status_code for _ in range(4)]
    assert answers == [200] * 4
    assert (len(canary.requests), len(stable.requests), len(control.requests)) == (4, 4, 0)


def test_an_answer_of_the_canary_that_is_wrong_reaches_the_user(begin: Begin, serve: Serve) -> None:
    stable, canary = serve(200), serve(500)
    ingress = begin(stable.address, arms=(canary.address, stable.address))
    shift(ingress, 1.0, 0.0)
    assert ingress.predict().status_code == 500
    assert not stable.requests


def test_only_predictions_are_split(begin: Begin, serve: Serve) -> None:
    stable, canary = serve(200), serve(500)
    ingress = begin(stable.address, arms=(canary.address, stable.address))
    shift(ingress, 1.0, 0.0)
    paths = ["/predict", "/v1/models/digits:predict", "/v2", "/v2/models/digits/infer"]
    assert [ingress.client.post(path, headers={"X-API-Key": "k"}).status_code for path in paths] == [500] * 4
    assert [path for path, _ in canary.requests] == paths
    canary.requests.clear()
    assert ingress.client.get("/health/live").status_code == 200
    assert ingress.client.get("/metrics").status_code == 200
    assert not canary.requests


def test_a_key_beyond_its_rate_is_refused_and_others_are_not(begin: Begin, serve: Serve) -> None:
    ingress = begin(serve(200).address, rate_per_key=1, burst_per_key=1)
    answers = [ingress.predict("greedy") for _ in range(20)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert limited
    refused(limited[0], 429, "rate-limited")
    assert limited[0].headers["retry-after"] == "1"
    assert ingress.predict("modest").status_code == 200
    # Without a key the address is what is limited.
    assert 429 in {ingress.predict("").status_code for _ in range(20)}
    # Neither a key nor its rate reaches the log.
    log = (ingress.layout.logs / "ingress.access.log").read_text()
    assert '"status":429' in log
    assert "greedy" not in log


def test_a_body_too_large_never_reaches_a_replica(begin: Begin, serve: Serve) -> None:
    upstream = serve(200)
    ingress = begin(upstream.address)
    assert ingress.predict(body=b"x" * LIMIT).status_code == 200
    refused(ingress.predict(body=b"x" * (LIMIT + 1)), 413, "payload-too-large")
    assert len(upstream.requests) == 1


def test_other_paths_do_not_exist(begin: Begin, serve: Serve) -> None:
    upstream = serve(200)
    ingress = begin(upstream.address)
    for path in ("/", "/docs", "/predict/", "/predictions", "/metrics/x", "/admin"):
        refused(ingress.client.get(path), 404, "not-found")
    assert not upstream.requests
    assert [ingress.client.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")] == [200] * 3


@pytest.mark.parametrize("path", ["/predict", "/v1/models/digits:predict", "/v2", "/v2/models/digits/infer"])
def test_every_way_to_predict_is_forwarded_and_limited(begin: Begin, serve: Serve, path: str) -> None:
    upstream = serve(200)
    ingress = begin(upstream.address, rate_per_key=1, burst_per_key=1)
    answers = [ingress.client.post(path, content=b"image", headers={"X-API-Key": "k"}) for _ in range(20)]
    assert answers[0].status_code == 200
    refused(answers[-1], 429, "rate-limited")
    assert set(upstream.requests) == {(path, b"image")}


@pytest.mark.parametrize(
    "path", ["/v2/repository/index", "/v2/repository/models/digits/load", "/v2/%72epository/index", "/v2//repository/index",
             "/v2/x/../repository/index", "/v2/x/%2e%2e/repository/index", "/v2%2frepository%2findex",
             "/v1/../v2/repository/index"],
)  # fmt: skip
def test_the_repository_is_not_for_clients_however_it_is_spelt(begin: Begin, serve: Serve, path: str) -> None:
    upstream = serve(200)
    ingress = begin(upstream.address)
    data = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    assert ingress.raw(data).startswith(b"HTTP/1.1 403 ")
    assert not upstream.requests


def test_ids_pass_through_and_a_refusal_names_them_too(begin: Begin, serve: Serve) -> None:
    upstream = serve(200)
    ingress = begin(upstream.address)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ingress.client.post("/predict", content=b"image", headers={"X-Request-ID": "mine.1", "traceparent": trace})
    assert (upstream.headers[0]["X-Request-ID"], upstream.headers[0]["traceparent"]) == ("mine.1", trace)
    ingress.client.post("/predict", content=b"image", headers={"X-Request-ID": 'no "id" at all'})
    assert re.fullmatch("[0-9a-f]{32}", upstream.headers[1]["X-Request-ID"])
    assert ingress.client.get("/nothing", headers={"X-Request-ID": "mine.2"}).json()["request_id"] == "mine.2"
    made = ingress.client.get("/nothing").json()["request_id"]
    logged = [json.loads(line)["request_id"] for line in (ingress.layout.logs / "ingress.access.log").read_text().splitlines()]
    assert logged == ["mine.2", made]


def test_the_key_that_is_limited_is_the_key_that_is_checked(begin: Begin, serve: Serve) -> None:
    upstream = serve(200)
    begin(upstream.address).client.post("/predict", content=b"image", headers=[("X-API-Key", "a"), ("X-API-Key", "b")])
    assert [value for name, value in upstream.pairs[0] if name == "X-API-Key"] in (["a"], ["a, b"])


HOST = b"Host: x\r\n"
INNER = b"GET /health/live?smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /predict HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(INNER)
SMUGGLED = {
    "CL.TE": POST + b"Content-Length: %d\r\n" % (len(INNER) + 5) + CHUNKED + b"\r\n0\r\n\r\n" + INNER,
    "TE.CL": POST + CHUNKED + b"Content-Length: 4\r\n\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + INNER,
    "a list of lengths": POST + b"Content-Length: 0, %d\r\n\r\n" % len(INNER) + INNER,
    "a length with a space": POST + b"Content-Length : %d\r\n\r\n" % len(INNER) + INNER,
    "a length with a sign": POST + b"Content-Length: +%d\r\n\r\n" % len(INNER) + INNER,
    "a length behind a bare LF": POST + b"X: a\n" + LENGTH + b"\r\n" + INNER,
    "a length behind a bare CR": POST + b"X: a\r" + LENGTH + b"\r\n" + INNER,
    "a length behind NUL": POST + b"X: a\0\r\n" + LENGTH + b"\r\n" + INNER,
    "a folded length": POST + b"Content-Length:\r\n %d\r\n\r\n" % len(INNER) + INNER,
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + INNER,
    "a coding with a space": POST + b"Transfer-Encoding : chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + INNER,
    "a coding with a tab": POST + b"Transfer-Encoding:\tchunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + INNER,
    "a coding with \\v": POST + b"Transfer-Encoding: \x0bchunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + INNER,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + INNER,
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n' + LENGTH + b"\r\n0\r\n\r\n" + INNER,
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + INNER,
    "Transfer_Encoding": POST + b"Transfer_Encoding: chunked\r\n" + LENGTH + b"\r\n" + INNER,
    "chunked in 1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n" + INNER,
    "a chunk extension": POST + CHUNKED + b"\r\n0;a=b\r\n\r\n" + INNER,
    "a chunk extension with LF": POST + CHUNKED + b"\r\n0;\n\r\n\r\n" + INNER,
    "a chunk size with LF": POST + CHUNKED + b"\r\n0\n\r\n" + INNER,
    "a chunk size too large": POST + CHUNKED + b"\r\n%x\r\n" % (2**64 + 5) + INNER,
    "a chunk with a prefix": POST + CHUNKED + b"\r\n0x0\r\n\r\n" + INNER,
    "a trailer": POST + CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n" + INNER,
    "a body of GET": b"GET /health/live HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + INNER,
    "Upgrade": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\n" + INNER,
    "Expect": POST + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + INNER,
    "absolute form": b"GET http://y/health/live HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + INNER,
}  # fmt: skip


def test_no_request_is_smuggled_past_nginx_into_a_real_replica(begin: Begin, replica: str) -> None:
    """Each answer belongs to one request, those of others' included, and the replica answered no more than it was asked."""
    ingress = begin(replica)
    before = answered(replica)
    heard = {
        name: ingress.raw(data + b"GET /health/live HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        for name, data in SMUGGLED.items()
    }
    expected = sum(forwarded(data) for data in heard.values())
    for number in range(50):  # others' requests, over the same connections to the replica
        answer = ingress.client.get("/health/live", headers={"X-Request-ID": f"other-{number}"})
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, f"other-{number}")
    assert answered(replica) - before == expected + 50
    assert {name for name, data in heard.items() if not re.match(rb"HTTP/1\.1 (100|200|4)", data)} == set()
    refusals = {name for name in heard if b"malformed-request" in heard[name]}
    assert refusals >= {"CL.TE", "TE.CL", "two lengths", "a list of lengths", "xchunked", "chunked twice", "a length with a sign"}


def forwarded(heard: bytes) -> int:
    """How many of the answers came from the replica, which says which model it serves."""
    heads = [part for part in re.split(rb"(?=HTTP/1\.1 \d{3} )", heard) if part and not part.startswith(b"HTTP/1.1 100 ")]
    return sum(b"x-model-version: 1" in head.lower() for head in heads)


def answered(address: str) -> float:
    """Requests that the replica counted, but for those that ask for the count."""
    text = httpx.get(f"http://{address}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("http_requests_total{") and "/metrics" not in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.fixture
def replica(place: Any, tmp_path: Path) -> Iterator[str]:
    """The address of a real serving process."""
    place.publish()
    port = free_port()
    log = tmp_path / "log"
    environment = {**os.environ, **place.environment(port=port)}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "system", "serve"], env=environment, stdout=out, stderr=out)
    deadline, last = time.monotonic() + 30, "nothing"
    while last != "200 OK":
        assert time.monotonic() < deadline, f"not ready within 30 s (last: {last})\n{log.read_text()}"
        time.sleep(0.05)
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False)
            last = f"{answer.status_code} {answer.reason_phrase}"
        except httpx.HTTPError as error:
            last = repr(error)
    yield f"127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_metrics_are_for_this_machine_only(begin: Begin, serve: Serve) -> None:
    ingress = begin(serve(200).address)
    context = ssl.create_default_context(cafile=ingress.layout.config / "ca.pem")
    transport = httpx.HTTPTransport(verify=context, local_address="127.0.0.2")
    with httpx.Client(transport=transport, base_url=ingress.client.base_url) as stranger:
        refused(stranger.get("/metrics"), 403, "forbidden")
        assert stranger.get("/health/ready").status_code == 200


def test_replicas_are_told_who_asked_and_keep_their_connections(begin: Begin, serve: Serve) -> None:
    upstream = serve(200)
    ingress = begin(upstream.address)
    for _ in range(3):
        ingress.predict()
    assert {(headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) for headers in upstream.headers} == {
        ("127.0.0.1", "https")
    }
    assert not [headers for headers in upstream.headers if headers.get("Connection", "").lower() == "close"]


def handshake(address: str, ca: Path, version: ssl.TLSVersion) -> str | None:
    context = ssl.create_default_context(cafile=ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return tls.version()


@pytest.mark.local
def test_only_tls_1_2_and_later_is_spoken(system: LocalTarget) -> None:
    address, ca = system.layout.address("ingress"), system.endpoints.ca_file
    assert handshake(address, ca, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert handshake(address, ca, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    # The alert is the server's: the client itself would have spoken it.
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        handshake(address, ca, ssl.TLSVersion.TLSv1_1)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://{address}/health/ready", verify=ssl.create_default_context(), trust_env=False)
    plain = httpx.get(f"http://{address}/health/ready", trust_env=False)
    assert plain.status_code == 400


@pytest.mark.local
def test_the_real_system_through_its_ingress(system: LocalTarget) -> None:
    endpoints = system.endpoints
    key = endpoints.api_key_file.read_text().strip()
    image = next(endpoints.bodies.rglob("*.png"))
    context = ssl.create_default_context(cafile=endpoints.ca_file)
    with httpx.Client(base_url=endpoints.ingress, verify=context, trust_env=False, timeout=10) as client:
        headers = {"X-API-Key": key, "Content-Type": "image/png"}
        answer = client.post("/predict", content=image.read_bytes(), headers=headers)
        assert answer.status_code == 200
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
        assert answer.headers["x-request-id"]
        assert answer.headers["x-model-version"]
        unknown = client.post("/predict", content=image.read_bytes(), headers=headers | {"X-API-Key": "unknown"})
        assert (unknown.status_code, unknown.headers["content-type"]) == (401, "application/problem+json")
        refused(client.post("/predict", content=b"x" * (prepare.MAX_BODY_BYTES + 1), headers=headers), 413, "payload-too-large")
        refused(client.get("/nothing"), 404, "not-found")
        assert client.get("/health/ready").status_code == 200
        assert "http_requests_total" in client.get("/metrics").text


@pytest.mark.local
def test_many_at_once_are_all_answered_by_the_real_system(system: LocalTarget) -> None:
    endpoints = system.endpoints
    host, port = system.layout.address("ingress").split(":")
    context = ssl.create_default_context(cafile=endpoints.ca_file)

    def ready(_: int) -> int:
        connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
        connection.request("GET", "/health/ready")
        status = connection.getresponse().status
        connection.close()
        return status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ready, range(64))) == {200}
