from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

from sre.targets.local import prepare
from sre.targets.local.layout import Layout
from sre.targets.local.plan import nodes
from sre.targets.local.service import Service, Task
from sre.targets.registry import MODEL, PRODUCTION, Registry
from tests.mlflow_server import first_version

MakeLayout = Callable[..., Layout]
SECRETS = ("PASSWORD", "SECRET", "TOKEN", "API_KEY")


@pytest.fixture
def layout(make_layout: MakeLayout, programs: Path) -> Layout:
    layout = make_layout(tools=programs)
    prepare.certificates(layout)
    return layout


def test_everything_comes_after_what_it_needs(layout: Layout) -> None:
    known: set[str] = set()
    for node in nodes(layout):
        assert set(node.after) <= known, node.name
        assert node.name not in known
        known.add(node.name)
    assert {*layout.replicas, *layout.members, "ingress", "mlflow", "prometheus", "alertmanager"} <= known


def test_a_restored_place_serves_and_neither_trains_nor_watches(make_layout: MakeLayout, programs: Path) -> None:
    names = {node.name for node in nodes(make_layout(tools=programs, replicas=1, parts="serving"))}
    assert names == {"initdb", "postgres", "roles", "migrate", "mlflow", "serving-1"}


def test_a_single_database_server_can_stand_alone(make_layout: MakeLayout, programs: Path) -> None:
    alone = make_layout(tools=programs, parts="database")
    assert [node.name for node in nodes(alone)] == ["initdb", "postgres", "roles"]


def test_a_cluster_alone_has_its_backups_and_nothing_that_uses_it(layout: Layout) -> None:
    cluster = replace(layout, parts="cluster", replicas=())
    whole = {node.name: node for node in nodes(layout)}
    assert [node.name for node in nodes(cluster)] == [
        "configure-database", "cables", "etcd-1", "etcd-2", "etcd-3", *layout.members, "roles", "backup-repository",
    ]  # fmt: skip
    assert all(node.after == whole[node.name].after for node in nodes(cluster))


def test_replicas_wait_for_a_model_and_nobody_waits_for_them(layout: Layout) -> None:
    by_name = {node.name: node for node in nodes(layout)}
    assert set(by_name["serving-1"].after) == {"migrate", "train"}
    assert not [node for node in by_name.values() if set(node.after) & set(layout.replicas)]


def test_canary_and_control_differ_from_a_replica_in_what_they_follow_alone(layout: Layout) -> None:
    by_name = {node.name: node for node in nodes(layout) if isinstance(node, Service)}
    assert {name for name, node in by_name.items() if node.on_demand} == {"canary-1", "control-1"}
    aliases = {name: by_name[name].environment["ML_MODEL_ALIAS"] for name in ("serving-1", "canary-1", "control-1")}
    assert aliases == {"serving-1": "production", "canary-1": "candidate", "control-1": "production"}
    own = {"ML_PORT", "ML_REPLICA", "ML_CACHE_DIR", "ML_MODEL_ALIAS"}
    same = [{key: value for key, value in by_name[name].environment.items() if key not in own} for name in aliases]
    assert same[0] == same[1] == same[2]
    assert {by_name[name].command for name in aliases} == {by_name["serving-1"].command}


def test_settings_meant_for_others_do_not_reach_a_service(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ("PGPASSWORD", "PGHOST", "ETCD_NAME", "PATRONI_NAME", "ML_PORT", "MLFLOW_TRACKING_URI", "SRE_HOME")
    for name in foreign:
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
        assert not re.search(r"://[a-z]*:[^@/]*@", str((node.command, ours)))


def test_only_this_machine_is_listened_to(layout: Layout) -> None:
    for node in nodes(layout):
        assert "0.0.0.0" not in str(node.command)  # noqa: S104 - looked for, not bound
        if isinstance(node, Service) and node.name in {"prometheus", "alertmanager", "node-exporter", "postgres-exporter"}:
            assert f"--web.listen-address={layout.address(node.name)}" in node.command


def test_the_database_and_its_store_alone_run_as_the_account(make_layout: MakeLayout, programs: Path) -> None:
    layout = make_layout(tools=programs, account="nobody")
    prepare.certificates(layout)
    services = [node for node in nodes(layout) if isinstance(node, Service)]
    assert {node.name for node in services if node.account == "nobody"} == {*layout.members, "etcd-1", "etcd-2", "etcd-3"}
    assert {node.account for node in services} == {None, "nobody"}


def test_whoever_asks_the_database_knows_all_members_and_looks_for_the_primary(layout: Layout) -> None:
    by_name = {node.name: node for node in nodes(layout)}
    addresses = [layout.address(member) for member in layout.members]
    for name in ("migrate", "serving-1"):
        url = by_name[name].environment["ML_DATABASE_URL"]
        assert url == layout.dsn("serving", "predictions")
    registry = make_url(by_name["mlflow"].environment["MLFLOW_BACKEND_STORE_URI"])
    assert list(registry.query["host"]) == addresses
    assert (registry.query["target_session_attrs"], registry.query["sslmode"]) == ("read-write", "verify-full")
    # The exporter is the exception: it asks each member, whatever its role.
    watched = [conninfo_to_dict(url) for url in by_name["postgres-exporter"].environment["DATA_SOURCE_NAME"].split(",")]
    assert [f"{one['host']}:{one['port']}" for one in watched] == addresses
    assert {(one["user"], one["sslmode"]) for one in watched} == {("monitor", "verify-full")}
    assert not [one for one in watched if "target_session_attrs" in one]


def test_the_load_generator_goes_before_what_serves_and_that_before_what_watches(layout: Layout) -> None:
    niceness = {node.name: node.niceness for node in nodes(layout) if isinstance(node, Service)}
    assert 0 < niceness["serving-1"] == niceness["ingress"] < niceness["prometheus"] == niceness["mlflow"]
    assert {niceness[name] for name in (*layout.members, "etcd-1", "etcd-2", "etcd-3", "cables")} == {0}


def test_a_model_is_trained_unless_the_registry_has_one(layout: Layout, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = next(node for node in nodes(layout) if node.name == "train")
    assert isinstance(train, Task)
    monkeypatch.setattr(Layout, "url", lambda _self, _service: mlflow_url)
    Registry(mlflow_url).name(PRODUCTION, first_version(mlflow_url, MODEL))
    assert train.skip()
    monkeypatch.setattr("sre.targets.local.plan.PRODUCTION", "nobody")
    assert not train.skip()
