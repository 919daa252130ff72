from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sre.targets.local import plan
from sre.targets.local.layout import Layout
from sre.targets.local.plan import Service, Task, nodes

MakeLayout = Callable[..., Layout]
SECRETS = ("PASSWORD", "SECRET", "TOKEN", "API_KEY")


@pytest.fixture
def layout(make_layout: MakeLayout, programs: Path) -> Layout:
    return make_layout(tools=programs)


def test_everything_comes_after_what_it_needs(layout: Layout) -> None:
    known: set[str] = set()
    for node in nodes(layout):
        assert set(node.after) <= known, node.name
        assert node.name not in known
        known.add(node.name)
    assert {*layout.replicas, "ingress", "postgres", "mlflow", "prometheus", "alertmanager"} <= known


def test_a_restored_place_serves_and_neither_trains_nor_watches(make_layout: MakeLayout, programs: Path) -> None:
    names = {node.name for node in nodes(make_layout(tools=programs, replicas=1, parts="serving"))}
    assert names == {"initdb", "postgres", "roles", "migrate", "mlflow", "serving-1"}


def test_replicas_wait_for_a_model_and_nobody_waits_for_them(layout: Layout) -> None:
    by_name = {node.name: node for node in nodes(layout)}
    assert set(by_name["serving-1"].after) == {"migrate", "train"}
    assert not [node for node in by_name.values() if set(node.after) & set(layout.replicas)]


def test_settings_meant_for_others_do_not_reach_a_service(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGHOST", "ML_PORT", "MLFLOW_TRACKING_URI", "PROMETHEUS_MULTIPROC_DIR", "SRE_HOME"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("LANG", "C.UTF-8")
    for node in nodes(layout):
        if node.environment:
            assert "foreign" not in node.environment.values()
            assert node.environment["SRE_SYSTEM"] == str(layout.home)
            assert node.environment["LANG"] == "C.UTF-8"


def test_no_secret_stands_in_a_command_or_an_environment(layout: Layout) -> None:
    for node in nodes(layout):
        ours = {name: value for name, value in node.environment.items() if name.startswith(("ML", "PG", "DATA_SOURCE"))}
        assert not [name for name in ours if any(word in name for word in SECRETS) and not name.endswith("_FILE")]
        assert "://serving:" not in str((node.command, ours))
        assert "://mlflow:" not in str((node.command, ours))


def test_only_this_machine_is_listened_to(layout: Layout) -> None:
    for node in nodes(layout):
        assert "0.0.0.0" not in str(node.command)  # noqa: S104 - looked for, not bound
        if isinstance(node, Service) and node.name in {"prometheus", "alertmanager", "node-exporter", "postgres-exporter"}:
            assert f"--web.listen-address={layout.address(node.name)}" in node.command


def test_postgres_alone_runs_as_the_account(make_layout: MakeLayout, programs: Path) -> None:
    services = [node for node in nodes(make_layout(tools=programs, account="nobody")) if isinstance(node, Service)]
    assert {node.name: node.account for node in services if node.account} == {"postgres": "nobody"}


def test_the_load_generator_goes_before_what_serves_and_that_before_what_watches(layout: Layout) -> None:
    niceness = {node.name: node.niceness for node in nodes(layout) if isinstance(node, Service)}
    assert 0 < niceness["serving-1"] == niceness["ingress"] < niceness["prometheus"] == niceness["mlflow"]


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        first = self.path.split("/")[1]
        self.send_response(int(first) if first.isdigit() else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{one.server_address[1]}"
        one.shutdown()
        thread.join()


def test_a_check_says_what_it_saw(server: str) -> None:
    assert plan._answers(f"{server}/200") == ""
    assert plan._answers(f"{server}/503") == f"{server}/503: status 503"
    assert plan._answers("http://127.0.0.1:1/").startswith("http://127.0.0.1:1/: ConnectError")
    assert plan._checker(f"{server}/404")() == f"{server}/404: status 404"


def test_a_proxy_of_the_caller_is_not_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert plan._answers(f"{server}/200") == ""


def test_a_database_that_is_away_says_why(layout: Layout) -> None:
    assert "127.0.0.1" in plan._postgres_accepts(layout)


def test_a_model_is_trained_unless_the_registry_has_one(layout: Layout, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = next(node for node in nodes(layout) if node.name == "train")
    assert isinstance(train, Task)
    monkeypatch.setattr(Layout, "url", lambda _self, _service: server)
    assert train.skip()
    monkeypatch.setattr(Layout, "url", lambda _self, _service: f"{server}/404")
    assert not train.skip()
