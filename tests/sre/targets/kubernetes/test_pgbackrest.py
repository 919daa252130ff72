"""pgBackRest's records, as it printed them on a cluster, and who is asked for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sre.errors import StepFailed
from sre.targets.kubernetes import pgbackrest
from sre.targets.kubernetes.client import Api, Ended
from sre.targets.kubernetes.database import MEMBERS
from sre.targets.kubernetes.pgbackrest import Held
from sre.targets.kubernetes.target import KubernetesTarget
from tests.sre.targets.kubernetes.conftest import Served

SYSTEM = "7713577230962278432"
PRIMARY = "/api/v1/namespaces/data/pods?labelSelector=app.kubernetes.io%2Fname%3Dpostgres%2Crole%3Dprimary"


def info(*backups: tuple[int, str], codes: dict[int, int] | None = None, error: bool = False) -> str:
    """With repositories 1 and 2, as version 2.45 prints it."""
    held = [
        {"database": {"id": 1, "repo-key": repository}, "label": label, "error": error, "type": "full"}
        for repository, label in backups
    ]
    codes = codes or {1: 0, 2: 0}
    repositories = [{"key": key, "status": {"code": code, "message": "m\nn"}} for key, code in codes.items()]
    database = [{"id": 1, "repo-key": key, "system-id": int(SYSTEM), "version": "15"} for key in codes]
    return json.dumps([{"archive": [], "backup": held, "db": database, "name": "ml", "repo": repositories}])


class Asked(Api):
    """A cluster in whose containers nothing runs but what a function answers."""

    answer: Callable[[str, str], tuple[int, str]]

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], *, within_s: float = 15.0) -> Ended:
        assert (namespace, container, within_s > 0) == ("data", "pgbackrest", True)
        return Ended(*self.answer(pod, command[-1]))


@pytest.fixture
def asked(kubeconfig: str, served: Served) -> Asked:
    served.objects[PRIMARY] = {"items": [{"metadata": {"name": "postgres-1"}}]}
    return Asked(kubeconfig, None)


def test_backups_are_of_a_repository_and_of_a_database() -> None:
    assert pgbackrest.held(info((1, "a"), (2, "b"))) == (Held(1, "a", SYSTEM), Held(2, "b", SYSTEM))
    assert pgbackrest.held(info()) == ()
    assert pgbackrest.held(info((2, "b"), error=True)) == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", "[{}]", "no json", '[{"db": [], "backup": []}]'])
def test_an_answer_that_is_none_is_no_backup(text: str) -> None:
    with pytest.raises(StepFailed, match="gave an answer that is not understood"):
        pgbackrest.held(text)


def test_a_repository_takes_backups_or_says_why_not() -> None:
    assert pgbackrest.unusable(info(), 2) == ""
    assert pgbackrest.unusable(info(codes={1: 0, 2: 2}), 2) == ""
    assert pgbackrest.unusable(info(codes={1: 0, 2: 99}), 2) == "m n"
    assert pgbackrest.unusable(info(codes={1: 0}), 2) == "pgBackRest knows no repository 2"


def test_a_database_is_kept_only_where_the_records_are_of_that_very_one(asked: Asked) -> None:
    systems = {"postgres-0": SYSTEM, "postgres-1": SYSTEM, "postgres-2": "1"}

    def answer(pod: str, script: str) -> tuple[int, str]:
        return (0, systems[pod]) if "pg_controldata" in script else (0, info((1, "a"), (2, "b")))

    asked.answer = answer
    there = "repository 2 holds b"
    assert pgbackrest.kept(asked) == {"data/postgres-0": there, "data/postgres-1": there}
    asked.answer = lambda _, script: (0, SYSTEM if "pg_controldata" in script else info())
    assert pgbackrest.kept(asked) == {}
    asked.answer = lambda *_: (1, "no such file")
    assert pgbackrest.kept(asked) == {}


def test_a_backup_is_made_beside_the_primary_and_must_be_listed(asked: Asked) -> None:
    asked_of: list[tuple[str, str]] = []
    listed: list[Any] = [(1, "a")]

    def answer(pod: str, script: str) -> tuple[int, str]:
        asked_of.append((pod, script))
        if " backup " in script:
            listed.append((2, "b"))
        return 0, info(*listed)

    asked.answer = answer
    assert pgbackrest.back_up(asked, 2) == "b"
    assert {pod for pod, _ in asked_of} == {"postgres-1"}
    assert "--repo=2 --type=full" in asked_of[1][1]
    asked.answer = lambda *_: (0, info(*listed))
    with pytest.raises(StepFailed, match="repository 2 lists no new backup"):
        pgbackrest.back_up(asked, 2)


def test_without_a_primary_nothing_is_backed_up(asked: Asked, served: Served) -> None:
    served.objects[PRIMARY] = {"items": []}
    with pytest.raises(StepFailed, match="0 members say that they are the primary"):
        pgbackrest.back_up(asked, 2)


def test_what_fails_beside_a_member_is_told_in_its_words(asked: Asked) -> None:
    asked.answer = lambda *_: (39, "ERROR: [039]: HTTP request\nfailed")
    with pytest.raises(StepFailed, match=r"info.*beside postgres-0 ended with 39: ERROR: \[039\]: HTTP request failed"):
        pgbackrest.ask(asked, "postgres-0")


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_on_the_real_cluster_a_database_is_made_only_where_every_repository_could_be_asked(
    system_on_cluster: KubernetesTarget,
) -> None:
    def tried(environment: str) -> str:
        script = f"{environment} timeout 60 python /etc/postgres/config/bootstrap.py --datadir=/tmp/try/data"
        look = "ls /tmp/try/data/PG_VERSION 2>&1; rm -rf /tmp/try"
        command = ["sh", "-c", f'{script}; echo "ended with $?"; {look}']
        return system_on_cluster.api.run("data", "postgres-0", "postgres", command, within_s=90.0).output

    made = tried("")
    assert "ended with 0\n/tmp/try/data/PG_VERSION" in made
    unasked = tried("PGBACKREST_REPO1_S3_BUCKET=nothing PGBACKREST_REPO2_S3_BUCKET=nothing")
    assert "no database is made while the backups cannot be asked: repository" in unasked
    assert "ended with 124" in unasked
    assert "No such file or directory" in unasked


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_on_the_real_cluster_a_database_with_a_backup_is_known_by_its_identifier(system_on_cluster: KubernetesTarget) -> None:
    api = system_on_cluster.api
    repository = 2 if not pgbackrest.unusable(pgbackrest.ask(api, "postgres-0"), 2) else 1
    label = pgbackrest.back_up(api, repository)
    found = pgbackrest.kept(api)
    assert set(found) == {f"data/{member}" for member in MEMBERS}
    assert {words.rpartition(" ")[2] for words in found.values()} == {label}
