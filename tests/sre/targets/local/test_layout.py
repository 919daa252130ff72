from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from annotated_types import Le
from psycopg.conninfo import conninfo_to_dict

from sre.config import Settings
from sre.errors import CannotRun
from sre.targets.local import layout as layouts
from sre.targets.local.layout import CABLES, MEMBERS, Layout, Parts, claim_ports, replica_names, unprivileged_account

REPLICAS = replica_names(3)


def test_everything_lies_below_the_home(make_layout: Callable[..., Layout]) -> None:
    layout = make_layout()
    folders = [layout.secrets, layout.config, layout.objects, layout.offsite, layout.logs, layout.run]
    folders += [place(member) for member in layout.members for place in (layout.data, layout.private)]
    assert len(set(folders)) == len(folders) == 12
    assert all(folder.is_relative_to(layout.home) for folder in folders)


def test_addresses_name_this_machine_only_and_no_password(make_layout: Callable[..., Layout]) -> None:
    layout = make_layout()
    assert layout.address("mlflow") == f"127.0.0.1:{layout.ports['mlflow']}"
    assert layout.url("mlflow") == f"http://{layout.address('mlflow')}"


def test_clients_know_every_member_and_ask_for_the_primary_with_a_proof_of_who_it_is(make_layout: Callable[..., Layout]) -> None:
    layout = make_layout()
    assert layout.members == ("postgres-1", "postgres-2", "postgres-3")
    known = conninfo_to_dict(layout.dsn("serving", "predictions"))
    assert (known["host"], known["port"]) == (
        "127.0.0.1,127.0.0.1,127.0.0.1", ",".join(str(layout.ports[member]) for member in layout.members),
    )  # fmt: skip
    assert {key: known[key] for key in known if key not in {"host", "port"}} == {
        "user": "serving", "dbname": "predictions", "target_session_attrs": "read-write", "sslmode": "verify-full",
        "sslrootcert": str(layout.config / "ca.pem"),
    }  # fmt: skip


@pytest.mark.parametrize("parts", ["serving", "database"])
def test_a_restored_place_has_one_server(make_layout: Callable[..., Layout], parts: Parts) -> None:
    layout = make_layout(parts=parts)
    assert layout.members == ("postgres",)
    assert not layout.clustered
    assert conninfo_to_dict(layout.dsn("serving", "predictions"))["port"] == str(layout.ports["postgres"])


def test_every_service_of_a_member_is_reached_through_a_cable_of_its_own(make_layout: Callable[..., Layout]) -> None:
    ports = make_layout().ports
    assert len(CABLES) == len(set(CABLES)) == 4 * len(MEMBERS)
    assert {f"{cable}-inside" for cable in CABLES} <= set(ports)
    assert {cable.rpartition("-")[2] for cable in CABLES} == {member.rpartition("-")[2] for member in MEMBERS}


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    ports, claim = claim_ports(Path("/srv/one"), REPLICAS)
    with claim:
        lowest, *_ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        assert len(set(ports.values())) == len(ports) == 38
        assert 1024 < min(ports.values()) < max(ports.values()) < min(int(lowest), 32_768)


def test_a_home_comes_back_on_its_ports() -> None:
    first, claim = claim_ports(Path("/srv/one"), REPLICAS)
    claim.close()
    again, claim = claim_ports(Path("/srv/one"), REPLICAS)
    claim.close()
    assert again == first


def test_a_block_has_room_for_every_replica_that_settings_allow() -> None:
    most = next(rule.le for rule in Settings.model_fields["replicas"].metadata if isinstance(rule, Le))
    assert isinstance(most, int)
    assert len(layouts._SINGLE_PORTS) + most < layouts._BLOCK


def test_systems_that_begin_together_never_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    # Few blocks for many systems: most of them collide with another on their way.
    monkeypatch.setattr(layouts, "_BLOCKS", 40)
    with ThreadPoolExecutor(12) as pool:
        claims = list(pool.map(lambda number: claim_ports(Path(f"/srv/{number}"), REPLICAS), range(12)))
    try:
        used = [port for ports, _ in claims for port in ports.values()] + [claim.getsockname()[1] for _, claim in claims]
        assert len(used) == len(set(used)) == 12 * 39
    finally:
        for _, claim in claims:
            claim.close()


def test_a_block_with_a_foreign_listener_is_passed_over() -> None:
    ports, claim = claim_ports(Path("/srv/one"), REPLICAS)
    claim.close()
    with socket.socket() as foreign:
        # A port that was in use a moment ago can be listened on only with this option, as every server does.
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", ports["prometheus"]))
        foreign.listen()
        other, claim = claim_ports(Path("/srv/one"), REPLICAS)
        claim.close()
    assert not set(other.values()) & set(ports.values())


def test_a_whole_machine_without_a_free_block_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_BLOCKS", 1)
    monkeypatch.setattr(layouts, "_FIRST_PORT", 31_000)
    _, claim = claim_ports(Path("/srv/one"), REPLICAS)
    with claim, pytest.raises(CannotRun, match="no block of 60 free ports between 31000 and 31060"):
        claim_ports(Path("/srv/two"), REPLICAS)


def test_root_gets_an_account_for_what_refuses_root_and_a_user_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unprivileged_account() is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert unprivileged_account() == pwd.getpwnam("nobody").pw_name

    def unknown(_: str) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(CannotRun, match="there is no account `nobody`; create one"):
        unprivileged_account()


def test_a_cluster_comes_back_on_its_own_ports_or_not_at_all() -> None:
    ports, claim = claim_ports(Path("/srv/one"), REPLICAS)
    first = claim.getsockname()[1]
    with claim, pytest.raises(CannotRun, match=rf"lives on the ports from {first} to .*another program holds one"):
        claim_ports(Path("/srv/another"), REPLICAS, first)
    again, claim = claim_ports(Path("/srv/another"), REPLICAS, first)
    claim.close()
    assert again == ports
