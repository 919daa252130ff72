from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sre.probes.http import predict
from sre.readings import Endpoints
from sre.targets.local.target import LocalTarget


@pytest.fixture
def endpoints(tmp_path: Path) -> Endpoints:
    key, image = tmp_path / "key", tmp_path / "one.png"
    key.write_text("the key\n")
    image.write_bytes(b"image")
    none = "http://127.0.0.1:1"
    return Endpoints(none, tmp_path / "ca.pem", key, none, none, none, "postgresql://", tmp_path / "passfile", tmp_path)


class Echo(BaseHTTPRequestHandler):
    answer = b'{"label": "7"}'
    seen: dict[str, str] = {}  # noqa: RUF012 - one server at a time

    def do_POST(self) -> None:
        type(self).seen = {
            **self.headers,
            "body": self.rfile.read(int(self.headers["Content-Length"])).decode(),
            "path": self.path,
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{one.server_address[1]}"
        one.shutdown()
        thread.join()


def test_one_request_carries_key_type_and_id(endpoints: Endpoints, server: str) -> None:
    status, body = predict(replace(endpoints, ingress=server), endpoints.bodies / "one.png", "drill-1")
    assert (status, body) == (200, {"label": "7"})
    seen = {name.lower(): value for name, value in Echo.seen.items()}
    assert (seen["x-api-key"], seen["content-type"], seen["x-request-id"]) == ("the key", "image/png", "drill-1")
    assert (seen["path"], seen["body"]) == ("/predict", "image")


@pytest.mark.parametrize(("answer", "status"), [(b"<html>", 0), (b"", 0), (b"[1]", 200)])
def test_an_answer_that_is_no_object_is_told(
    endpoints: Endpoints, server: str, monkeypatch: pytest.MonkeyPatch, answer: bytes, status: int
) -> None:
    monkeypatch.setattr(Echo, "answer", answer)
    got, body = predict(replace(endpoints, ingress=server), endpoints.bodies / "one.png")
    assert got == status
    assert body["detail"]


def test_no_answer_is_status_zero_with_a_reason(endpoints: Endpoints) -> None:
    assert predict(endpoints, endpoints.bodies / "one.png") == (0, {"detail": "ConnectError: [Errno 111] Connection refused"})
    assert predict(replace(endpoints, ingress="https://127.0.0.1:1"), endpoints.bodies / "one.png")[0] == 0
    assert predict(endpoints, endpoints.bodies / "none.png")[0] == 0


@pytest.mark.local
def test_a_user_of_the_real_system(system: LocalTarget, endpoints: Endpoints) -> None:
    real = system.endpoints
    image = next(real.bodies.rglob("*.jpg"))
    status, body = predict(real, image)
    assert status == 200
    assert len(body["probabilities"]) == 10
    other, refusal = predict(replace(real, api_key_file=endpoints.api_key_file), image)
    assert (other, refusal["code"]) == (401, "unauthorized")
