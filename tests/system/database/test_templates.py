"""The configuration of the database cluster, as the programs that read it will understand it."""

from __future__ import annotations

from configparser import ConfigParser
from typing import Any

import pytest
from yaml import safe_load

from system import render

ROLES = {"superuser": "postgres", "replication": "replicator", "rewind": "rewind"}
VALUES: dict[str, Any] = {
    "member": {
        "name": "postgres-1", "folder": "/srv/config/postgres-1", "data": "/srv/data/postgres-1/pgdata",
        "postgres": "127.0.0.1:5432", "postgres_inside": "127.0.0.1:6432", "postgres_port": 6432,
        "rest": "127.0.0.1:8008", "rest_inside": "127.0.0.1:8108",
    },
    "etcd": ["127.0.0.1:2379", "127.0.0.1:2479", "127.0.0.1:2579"],
    "authority": "/srv/config/ca.pem",
    "programs": "/usr/lib/postgresql/15/bin",
    "pgbackrest": "/usr/bin/pgbackrest",
    "synchronous": "on",
    "authentication": {purpose: {"name": name, "password": f"{name}: '\"#{{"} for purpose, name in ROLES.items()},
    "locks": "/srv/config/locks",
    "repositories": [{"path": "/srv/objects/backups", "pass": "first"}, {"path": "/srv/offsite", "pass": "second"}],
}  # fmt: skip
FAILOVER_WITHIN_S = 30


def patroni(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = safe_load(render.render("patroni.yml", VALUES | changes))
    return document


def backrest() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read_string(render.render("pgbackrest.conf", VALUES))
    return parser


def test_the_times_keep_patronis_rule_and_our_promise() -> None:
    times = patroni()["bootstrap"]["dcs"]
    # Patroni's own rule: a primary must be able to fail twice at renewing its lease before the lease ends.
    assert times["loop_wait"] + 2 * times["retry_timeout"] <= times["ttl"]
    # A whole member lost: the lease ends, a standby looks, and takes over.
    assert times["ttl"] + times["loop_wait"] + 2 <= FAILOVER_WITHIN_S
    # A process lost: no waiting for crash recovery while a standby is there.
    assert times["primary_start_timeout"] == 0
    parameters = times["postgresql"]["parameters"]
    for name in ("wal_sender_timeout", "wal_receiver_timeout"):
        assert int(parameters[name].removesuffix("s")) <= times["ttl"]


@pytest.mark.parametrize(("chosen", "waits", "strictly"), [("strict", True, True), ("on", True, False), ("off", False, False)])
def test_whether_a_commit_waits_is_as_chosen(chosen: str, waits: bool, strictly: bool) -> None:  # noqa: FBT001 - a table
    settings = patroni(synchronous=chosen)["bootstrap"]["dcs"]
    assert (settings["synchronous_mode"], settings["synchronous_mode_strict"]) == (waits, strictly)


def test_nobody_comes_in_without_a_password_and_nobody_from_elsewhere() -> None:
    rules = [line.split() for line in patroni()["postgresql"]["pg_hba"]]
    assert {rule[-1] for rule in rules} == {"scram-sha-256"}
    assert {rule[0] for rule in rules} == {"local", "hostssl"}
    assert {rule[3] for rule in rules if rule[0] == "hostssl"} == {"127.0.0.1/32"}
    assert [rule[2] for rule in rules if rule[0] == "local"] == ["postgres,backup"]
    parameters = patroni()["postgresql"]["parameters"]
    assert (parameters["ssl"], parameters["password_encryption"]) == ("on", "scram-sha-256")


def test_members_prove_themselves_to_each_other_and_look_at_who_answers() -> None:
    settings = patroni()
    assert settings["restapi"]["verify_client"] == "optional"
    assert settings["etcd3"]["protocol"] == "https"
    assert {settings[part]["cacert"] for part in ("ctl", "etcd3")} == {VALUES["authority"]}
    for role in settings["postgresql"]["authentication"].values():
        assert (role["sslmode"], role["sslrootcert"]) == ("verify-full", VALUES["authority"])


def test_a_password_of_any_letters_arrives_whole() -> None:
    known = patroni()["postgresql"]["authentication"]
    assert {purpose: (role["username"], role["password"]) for purpose, role in known.items()} == {
        purpose: (role["name"], role["password"]) for purpose, role in VALUES["authentication"].items()
    }


def test_others_reach_a_member_by_its_cable_and_it_listens_inside() -> None:
    settings, member = patroni(), VALUES["member"]
    assert (settings["restapi"]["listen"], settings["restapi"]["connect_address"]) == (member["rest_inside"], member["rest"])
    database = settings["postgresql"]
    assert (database["listen"], database["connect_address"]) == (member["postgres_inside"], member["postgres"])
    assert settings["etcd3"]["hosts"].split(",") == VALUES["etcd"]


def test_a_new_database_has_checksums_and_keeps_its_wal_for_who_was_away() -> None:
    bootstrap = patroni()["bootstrap"]
    assert "data-checksums" in bootstrap["initdb"]
    assert {"auth": "scram-sha-256"} in bootstrap["initdb"]
    assert bootstrap["dcs"]["postgresql"]["use_pg_rewind"]
    assert bootstrap["dcs"]["postgresql"]["use_slots"]


def test_every_member_archives_its_wal_and_loses_at_most_a_minute_of_it() -> None:
    settings = patroni()
    parameters = settings["bootstrap"]["dcs"]["postgresql"]["parameters"]
    assert parameters["archive_mode"] == "on"
    assert int(parameters["archive_timeout"].removesuffix("s")) <= 60
    command = settings["postgresql"]["parameters"]["archive_command"]
    assert command == (
        "/usr/bin/pgbackrest --config=/srv/config/postgres-1/pgbackrest.conf --stanza=ml archive-push %p ||"
        " { [ $? -eq 45 ] && [ $((0x$(echo %f | cut -c1-8))) -lt"
        " $(LC_ALL=C /usr/lib/postgresql/15/bin/pg_controldata -D . |"
        " sed -n 's/^Latest checkpoint.s TimeLineID: *//p') ]; }"
    )


def test_both_repositories_are_encrypted_each_with_its_own_key() -> None:
    settings = backrest()["global"]
    for number, repository in enumerate(VALUES["repositories"], 1):
        found = [settings[f"repo{number}-{key}"] for key in ("path", "cipher-type", "cipher-pass")]
        assert found == [repository["path"], "aes-256-cbc", repository["pass"]]
        # Nothing expires by pgBackRest's own count.
        assert int(settings[f"repo{number}-retention-full"]) > 1_000_000
    assert "repo3-path" not in settings
    assert settings["expire-auto"] == "n"


def test_a_backup_reads_the_server_itself_and_not_through_a_cable() -> None:
    stanza = backrest()["ml"]
    assert stanza["pg1-path"] == VALUES["member"]["data"]
    assert stanza["pg1-port"] == str(VALUES["member"]["postgres_port"])
    assert stanza["pg1-socket-path"] == patroni()["postgresql"]["parameters"]["unix_socket_directories"]
