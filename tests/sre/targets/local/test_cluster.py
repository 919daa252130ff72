from __future__ import annotations

from pathlib import Path

from sre.targets.local import cables
from sre.targets.local import cluster as clusters
from sre.targets.local.layout import CABLES, MEMBERS, Layout
from sre.targets.local.service import Service, Task


def by_name(layout: Layout) -> dict[str, Service | Task]:
    return {node.name: node for node in clusters.services(layout)}


def test_every_cable_leads_to_the_port_inside_and_belongs_to_the_member_whose_processes_it_cuts(cluster: Layout) -> None:
    services = by_name(cluster)
    assert isinstance(services["cables"], Service)
    plan = cables.read_plan(Path(services["cables"].command[-1]))
    assert {(cable.name, cable.listen, cable.to) for cable in plan.cables} == {
        (name, cluster.ports[name], cluster.ports[f"{name}-inside"]) for name in CABLES
    }
    assert {cable.name: cable.member for cable in plan.cables} == {name: name[-1] for name in CABLES}
    for number in ("1", "2", "3"):
        assert any(cluster.data(f"postgres-{number}").is_relative_to(folder) for folder in plan.members[number])
        for name in (f"postgres-{number}", f"etcd-{number}"):
            assert services[name].environment["SRE_MEMBER"] == number


def test_a_new_cluster_begins_with_one_member_and_an_old_one_with_all(cluster: Layout) -> None:
    def waits() -> list[bool]:
        services = by_name(cluster)
        return ["postgres-1" in services[member].after for member in MEMBERS]

    assert waits() == [False, True, True]
    mark = cluster.data("postgres-3") / "PG_VERSION"
    mark.parent.mkdir()
    mark.touch()
    try:
        assert waits() == [False, False, False]
    finally:
        mark.unlink()
        mark.parent.rmdir()


def test_members_of_the_store_speak_over_cables_and_only_with_who_proves_itself(cluster: Layout) -> None:
    services = by_name(cluster)
    for number in ("1", "2", "3"):
        node = services[f"etcd-{number}"]
        options = dict(option.removeprefix("--").split("=", 1) for option in node.command[1:])
        assert options["listen-client-urls"] == f"https://{cluster.address(f'etcd-{number}-inside')}"
        assert options["listen-peer-urls"] == f"https://{cluster.address(f'etcd-peer-{number}-inside')}"
        assert options["advertise-client-urls"] == f"https://{cluster.address(f'etcd-{number}')}"
        peers = [f"etcd-{one}=https://{cluster.address(f'etcd-peer-{one}')}" for one in (1, 2, 3)]
        assert options["initial-cluster"].split(",") == peers
        assert (options["client-cert-auth"], options["peer-client-cert-auth"]) == ("true", "true")
        # etcd's own rule: an election takes at least five heartbeats, or the cluster elects without end.
        assert int(options["election-timeout"]) >= 5 * int(options["heartbeat-interval"])


def test_a_member_s_settings_come_from_its_own_folder_and_not_from_the_caller(cluster: Layout) -> None:
    services = by_name(cluster)
    for member in MEMBERS:
        environment, private = services[member].environment, str(cluster.private(member))
        assert (environment["HOME"], environment["PGPASSFILE"]) == (private, f"{private}/pgpass")
        assert services[member].command[-1] == f"{private}/patroni.yml"


def test_a_single_server_lets_nobody_in_without_a_password_and_archives_nothing(place: Layout) -> None:
    assert [node.name for node in clusters.services(place)] == ["initdb", "postgres", "roles"]
    server = by_name(place)["postgres"]
    assert isinstance(server, Service)
    assert (server.account, server.niceness) == (place.account, 5)
    settings = dict(option.split("=", 1) for option in server.command if "=" in option)
    rules = [line.split() for line in Path(settings["hba_file"]).read_text().splitlines()]
    assert {rule[-1] for rule in rules} == {"scram-sha-256"}
    assert {rule[0] for rule in rules} == {"local", "hostssl"}
    assert (settings["ssl"], settings["archive_mode"], settings["listen_addresses"]) == ("on", "off", "127.0.0.1")


def test_a_database_that_is_away_says_why(cluster: Layout) -> None:
    assert "refused" in clusters._accepts(cluster)
