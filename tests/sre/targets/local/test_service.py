from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sre.targets.certificates import Authority
from sre.targets.local.layout import Layout
from sre.targets.local.service import answers, base_environment, checker


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def run(one: HTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one.server_address[1]
    one.shutdown()
    thread.join()


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as one:
        for port in run(one):
            yield f"http://127.0.0.1:{port}"


def test_a_check_says_what_it_saw(server: str) -> None:
    assert answers(f"{server}/200") == ""
    assert answers(f"{server}/503") == f"{server}/503: status 503"
    assert answers("http://127.0.0.1:1/").startswith("http://127.0.0.1:1/: ConnectError")
    assert checker(f"{server}/404")() == f"{server}/404: status 404"


def test_a_proxy_of_the_caller_is_not_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert answers(f"{server}/200") == ""


def test_a_server_is_believed_only_with_a_certificate_of_the_authority(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("server")
    (tmp_path / "server.pem").write_bytes(key.encode() + certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    with HTTPServer(("127.0.0.1", 0), _Answers) as one:
        one.socket = context.wrap_socket(one.socket, server_side=True)
        for port in run(one):
            url = f"https://127.0.0.1:{port}/200"
            assert answers(url, ssl.create_default_context(cadata=authority.pem.decode())) == ""
            assert "CERTIFICATE_VERIFY_FAILED" in answers(url, ssl.create_default_context(cadata=Authority().pem.decode()))


def test_settings_meant_for_others_are_left_out_and_the_home_is_marked(
    make_layout: Callable[..., Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ("ETCD_NAME", "ML_PORT", "MLFLOW_TRACKING_URI", "PATRONI_SCOPE", "PGHOST", "PROMETHEUS_MULTIPROC_DIR", "SRE_HOME")
    for name in foreign:
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("LANG", "C.UTF-8")
    layout = make_layout()
    environment = base_environment(layout)
    assert "foreign" not in environment.values()
    assert (environment["LANG"], environment["SRE_SYSTEM"]) == ("C.UTF-8", str(layout.home))
