"""What a drill may do to the database, on the real cluster; every test leaves it whole."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql

from sre.errors import StepFailed, TargetUnavailable
from sre.readings import Member
from sre.targets.local import prepare, state
from sre.targets.local.layout import Layout
from sre.targets.local.members import LocalDatabase
from sre.targets.local.target import LocalTarget

MakeLayout = Callable[..., Layout]
Eventually = Callable[..., None]


class Cluster:
    """The real cluster, and what a client and its processes say of it."""

    def __init__(self, layout: Layout, eventually: Eventually) -> None:
        self.layout, self.database = layout, LocalDatabase(layout)
        self._eventually, self._numbers = eventually, count()

    def member(self, name: str) -> Member:
        return next(member for member in self.database.members() if member.name == name)

    def with_role(self, role: str) -> Member:
        return next(member for member in self.database.members() if member.role == role)

    def whole(self) -> bool:
        members = self.database.members()
        states = sorted((member.role, member.state) for member in members)
        return (
            states == [("primary", "running"), ("standby", "streaming"), ("sync_standby", "streaming")]
            and all(member.identity for member in members)
            and len({member.timeline for member in members}) == 1
            and all(member.lag is not None and member.lag < 1_000_000 for member in members)
        )

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        def seen() -> bool:
            try:
                return condition()
            except (StopIteration, psycopg.Error):
                return False

        self._eventually(seen, what)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        passfile = str(self.layout.secrets / "passfile")
        return psycopg.connect(self.layout.dsn("drills", "drills"), passfile=passfile, connect_timeout=3, autocommit=True)

    def takes_writes(self) -> bool:
        self.connect().close()
        return True

    def write(self) -> bool:
        """Whether a client that looks for the primary can write just now."""
        with self.connect() as connection:
            connection.execute("SET statement_timeout = 5000")
            connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS members_test (number int)"))
            connection.execute("INSERT INTO members_test VALUES (%s)", [next(self._numbers)])
        return True

    def servers(self, name: str) -> list[psutil.Process]:
        postmaster = psutil.Process(int(self.member(name).identity.partition("@")[0]))
        return [postmaster, *postmaster.children(recursive=True)]


@pytest.fixture
def cluster(system: LocalTarget, eventually: Eventually) -> Iterator[Cluster]:
    one = Cluster(system.layout, eventually)
    one.wait(one.whole, "the cluster is whole before the test")
    yield one
    one.database.mend()
    for name in one.layout.members:
        for undo in (one.database.bring_back, one.database.thaw, one.database.catch_up):
            undo(name)
        one.database.allow_writes(name)
    one.wait(one.whole, "the cluster is whole after the test")


@pytest.mark.local
def test_members_are_what_the_servers_themselves_say(cluster: Cluster) -> None:
    members = cluster.database.members()
    assert [member.name for member in members] == list(cluster.layout.members)
    assert cluster.database.primary() == cluster.with_role("primary")
    assert cluster.database.synchronous
    assert [cluster.database.store_trouble(member.name) for member in members] == ["", "", ""]
    for member in members:
        assert psutil.Process(int(member.identity.partition("@")[0])).name() == "postgres"
        address = f"postgresql://monitor@{cluster.layout.address(member.name)}/postgres?sslmode=require"
        with psycopg.connect(address, passfile=str(cluster.layout.secrets / "passfile"), connect_timeout=5) as connection:
            row = connection.execute("SELECT pg_is_in_recovery(), current_setting('data_directory')").fetchone()
        assert row == (member.role != "primary", str(cluster.layout.data(member.name)))


@pytest.mark.local
def test_a_client_that_shows_no_certificate_may_look_and_change_nothing(cluster: Cluster) -> None:
    before = cluster.database.members()
    leader = cluster.with_role("primary")
    trust = ssl.create_default_context(cafile=cluster.layout.config / "ca.pem")
    url = f"https://{cluster.layout.address(leader.name.replace('postgres', 'patroni'))}"
    with httpx.Client(verify=trust, timeout=10, trust_env=False) as stranger:
        assert stranger.get(f"{url}/cluster").status_code == 200
        for path, wish in (("switchover", {"leader": leader.name}), ("restart", {}), ("failover", {"candidate": "postgres-2"})):
            assert stranger.post(f"{url}/{path}", json=wish).status_code == 403
        assert stranger.patch(f"{url}/config", json={"ttl": 3600}).status_code == 403
    assert [(member.identity, member.role) for member in cluster.database.members()] == [
        (member.identity, member.role) for member in before
    ]


@pytest.mark.local
def test_when_the_primary_crashes_another_takes_over_with_every_write_and_it_comes_back(cluster: Cluster) -> None:
    victim, heir = cluster.with_role("primary"), cluster.with_role("sync_standby")
    cluster.wait(cluster.write, "a write before the crash")
    with cluster.connect() as connection:
        before = connection.execute("SELECT count(*), max(number) FROM members_test").fetchone()
    cluster.database.crash(victim.name)
    cluster.wait(lambda: cluster.with_role("primary").name != victim.name, "another primary")
    # Only a standby that has every acknowledged write may take over.
    assert cluster.with_role("primary").name == heir.name
    # Its role turns before its promotion ends: until then it takes no session that wants to write.
    cluster.wait(cluster.takes_writes, "the new primary takes writes")
    with cluster.connect() as connection:
        assert connection.execute("SELECT count(*), max(number) FROM members_test").fetchone() == before
    cluster.wait(cluster.write, "a write after the crash")
    cluster.wait(cluster.whole, "the crashed member follows")
    after = cluster.member(victim.name)
    assert after.identity not in {"", victim.identity}
    assert after.timeline > victim.timeline


@pytest.mark.local
def test_a_primary_that_cannot_write_gives_way_and_comes_back_when_it_can(cluster: Cluster) -> None:
    victim = cluster.with_role("primary")
    cluster.database.refuse_writes(victim.name)
    assert {file_limit(process) for process in cluster.servers(victim.name)} == {"1"}
    cluster.wait(lambda: not cluster.write() or cluster.with_role("primary").name != victim.name, "another primary")
    cluster.wait(cluster.write, "a write to another primary")
    assert cluster.with_role("primary").name != victim.name
    cluster.database.allow_writes(victim.name)
    cluster.wait(cluster.whole, "the member follows")
    assert {file_limit(process) for process in cluster.servers(victim.name)} == {"unlimited"}


def file_limit(process: psutil.Process) -> str:
    """The soft limit on the size of files, as the kernel shows it to everyone."""
    lines = Path(f"/proc/{process.pid}/limits").read_text(encoding="utf-8").splitlines()
    return next(line.split()[3] for line in lines if line.startswith("Max file size"))


@pytest.mark.local
def test_a_switchover_makes_the_one_that_was_named_the_primary(cluster: Cluster) -> None:
    before, to = cluster.with_role("primary"), cluster.with_role("sync_standby")
    cluster.database.switch_over(to.name)
    cluster.wait(lambda: cluster.with_role("primary").name == to.name, f"{to.name} is the primary")
    cluster.wait(cluster.whole, "all follow")
    assert cluster.with_role("primary").name == to.name
    assert cluster.with_role("primary").timeline > before.timeline


@pytest.mark.local
def test_a_switchover_that_the_agents_refuse_is_told_in_their_words(cluster: Cluster) -> None:
    leader = cluster.with_role("primary")
    with pytest.raises(StepFailed, match=rf"switchover from {leader.name} to {leader.name} was answered 4\d\d: \w+"):
        cluster.database.switch_over(leader.name)
    assert cluster.with_role("primary").identity == leader.identity


@pytest.mark.local
def test_a_frozen_server_is_the_same_and_goes_on_when_it_is_thawed(cluster: Cluster) -> None:
    victim = cluster.with_role("standby")
    cluster.database.freeze(victim.name)
    assert {process.status() for process in cluster.servers(victim.name)} == {psutil.STATUS_STOPPED}
    assert cluster.member(victim.name).identity == victim.identity
    cluster.database.thaw(victim.name)
    assert psutil.STATUS_STOPPED not in {process.status() for process in cluster.servers(victim.name)}
    cluster.wait(cluster.whole, "the thawed member follows")
    assert cluster.member(victim.name).identity == victim.identity


@pytest.mark.local
def test_a_lost_host_stays_away_until_it_is_brought_back(cluster: Cluster) -> None:
    victim = cluster.with_role("standby")
    store = victim.name.replace("postgres", "etcd")
    cluster.database.lose(victim.name)
    cluster.wait(lambda: {service(cluster, name).process for name in (victim.name, store)} == {""}, "agent and store are gone")
    assert cluster.member(victim.name).identity == ""
    assert cluster.database.store_trouble(victim.name) == f"{store} does not answer (ConnectError)"
    with pytest.raises(StepFailed, match=f"{victim.name} runs no database server"):
        cluster.database.crash(victim.name)
    # A commit waits for the other standby only.
    cluster.wait(cluster.write, "a write without the lost host")
    assert {service(cluster, name).state for name in (victim.name, store)} == {"restarting"}
    cluster.database.bring_back(victim.name)
    cluster.wait(cluster.whole, "the lost host is back")
    assert cluster.member(victim.name).identity not in {"", victim.identity}


@pytest.mark.local
def test_a_member_that_loses_its_volume_is_built_anew_from_the_primary(cluster: Cluster) -> None:
    victim = cluster.with_role("standby")
    volume, data = cluster.database.volume(victim.name), cluster.layout.data(victim.name)
    assert volume == str(data.stat().st_ino)
    cluster.database.lose_volume(victim.name)
    cluster.wait(lambda: cluster.database.volume(victim.name) not in {"", volume}, "it has another data folder")
    cluster.wait(cluster.whole, "it follows again")
    assert cluster.member(victim.name).identity not in {"", victim.identity}
    aside = data.with_suffix(".lost")
    assert aside.exists()
    cluster.database.bring_back(victim.name)
    assert not aside.exists()


def service(cluster: Cluster, name: str) -> state.ServiceState:
    current = state.read(cluster.layout.home)
    assert current is not None
    return current.services[name]


@pytest.mark.local
def test_a_member_whose_cable_is_pulled_runs_on_alone(cluster: Cluster) -> None:
    victim = cluster.with_role("standby")
    cluster.database.cut(victim.name)
    cluster.wait(lambda: cluster.database.store_trouble(victim.name) != "", "its store cannot be reached")
    cluster.wait(lambda: cluster.member(victim.name).state != "streaming", "the others miss it")
    assert cluster.member(victim.name).identity == victim.identity
    cluster.wait(cluster.write, "a write without it")
    cluster.database.mend()
    cluster.wait(cluster.whole, "it follows again")
    assert cluster.member(victim.name).identity == victim.identity


# A peer that dies between connect and handshake makes Python's ssl module forget the socket it was given.
@pytest.mark.filterwarnings("ignore:.*SSLSocket.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.local
def test_a_lost_store_takes_no_server_with_it(cluster: Cluster) -> None:
    before, victim = cluster.database.members(), cluster.with_role("standby")
    cluster.database.lose_store([victim.name])
    cluster.wait(lambda: "does not answer" in cluster.database.store_trouble(victim.name), "its store is gone")
    cluster.wait(cluster.write, "a write while two stores agree")
    assert [member.identity for member in cluster.database.members()] == [member.identity for member in before]
    cluster.database.bring_back(victim.name)
    cluster.wait(lambda: cluster.database.store_trouble(victim.name) == "", "its store is back")


@pytest.mark.local
def test_a_standby_that_is_held_back_lags_until_it_may_catch_up(cluster: Cluster) -> None:
    victim = cluster.with_role("standby")
    cluster.database.hold_back(victim.name)
    with pytest.raises(StepFailed, match=r"postgres-\d has no process to send SIGSTOP to"):
        cluster.database.hold_back(cluster.with_role("primary").name)
    with cluster.connect() as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'test', repeat('a word', 500000))")
    cluster.wait(lambda: (cluster.member(victim.name).lag or 0) > 1_000_000, "it lags")
    cluster.database.catch_up(victim.name)
    cluster.wait(cluster.whole, "it has caught up")


def test_of_a_cluster_that_is_gone_nothing_is_known_and_nothing_is_done(make_layout: MakeLayout) -> None:
    layout = make_layout()
    prepare.certificates(layout)
    database = LocalDatabase(layout)
    assert database.members() == tuple(
        Member(name, "", "", "unknown", 0, None) for name in ("postgres-1", "postgres-2", "postgres-3")
    )
    assert database.primary() is None
    for act in (database.crash, database.freeze, database.hold_back):
        with pytest.raises(StepFailed, match="postgres-2"):
            act("postgres-2")
    with pytest.raises(StepFailed, match=r"there is no primary to switch over from \(to postgres-2\)"):
        database.switch_over("postgres-2")
    assert database.volume("postgres-2") == ""
    with pytest.raises(StepFailed, match="postgres-2 has no data to lose"):
        database.lose_volume("postgres-2")
    for change in (database.lose, database.refuse_writes):
        with pytest.raises(TargetUnavailable, match="is gone; run `sre up`"):
            change("postgres-2")


def test_a_process_that_has_a_dead_server_s_number_is_never_taken_for_it(make_layout: MakeLayout) -> None:
    layout = make_layout()
    layout.data("postgres-1").mkdir(parents=True)
    (layout.data("postgres-1") / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with pytest.raises(StepFailed, match="postgres-1 runs no database server"):
        LocalDatabase(layout).crash("postgres-1")
