"""The whole drill on the simulated network: kept, and not kept in every way in which that can disappoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sre.drills import run
from sre.drills.base import Case, Context
from sre.drills.network_policy import NetworkPolicy
from sre.errors import ExitCode
from sre.targets.memory import Behaviour, MemoryTarget

if TYPE_CHECKING:
    from .conftest import RunDrills


def test_every_listed_way_is_open_and_no_other(run_drills: RunDrills) -> None:
    ran = run_drills(NetworkPolicy())
    assert ran.record.exit_code == ExitCode.KEPT
    verdict = ran.verdict("network-policy")
    assert (verdict.measured, verdict.n > 100) == (0, True)
    assert ran.drill.findings == ("nobody is known to listen at metadata-0 port 80, so that it refuses proves nothing",)
    assert ran.drill.facts["looks"] == 1
    assert ["ml-system/migrate", "data/postgres", 5432] in ran.drill.facts["listed"]
    assert ran.pending() == 0
    assert ran.target.network.left() == ""
    assert run.verify(ran.folder, ran.key) == []


OPENED = (("data/buckets", "monitoring/alertmanager", 9093),)
CLOSED = (("ml-system/migrate", "data/postgres", 5432),)
SABOTAGE: list[tuple[str, Behaviour, ExitCode, str]] = [
    ("opened", Behaviour(ways_opened=OPENED), ExitCode.BROKEN,
     "way-open: data/buckets reaches monitoring/alertmanager at port 9093 (alertmanager-0), and should not"),
    ("closed", Behaviour(ways_closed=CLOSED), ExitCode.BROKEN,
     "way-closed: ml-system/migrate does not reach data/postgres at port 5432 (postgres-0): Connection refused"),
    ("way out", Behaviour(ways_opened=(("ml-system/ml-api", "beyond/elsewhere", 8080),)), ExitCode.BROKEN,
     "ml-system/ml-api reaches beyond/elsewhere"),
    ("API server", Behaviour(ways_opened=(("ml-system/ml-api", "beyond/api-server", 443),)), ExitCode.BROKEN,
     "ml-system/ml-api reaches beyond/api-server"),
    ("stranger let in", Behaviour(ways_opened=(("default/guest", "data/minio", 9000),)), ExitCode.BROKEN,
     "default/guest reaches data/minio"),
    ("names", Behaviour(ways_closed=(("data/mlflow", "beyond/dns", 53),)), ExitCode.BROKEN,
     "data/mlflow does not reach beyond/dns"),
    ("nobody listens", Behaviour(servers_silent=("data/minio",)), ExitCode.INCONCLUSIVE,
     "nobody is known to listen at minio-0 port 9000, so that it refuses proves nothing"),
    ("no probe", Behaviour(probes_start=False), ExitCode.CANNOT_RUN,
     "every probe to run not within 90 s (last seen: no probe runs)"),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE])
def test_sabotage_never_ends_as_kept(run_drills: RunDrills, behaviour: Behaviour, exit_code: ExitCode, words: str) -> None:
    ran = run_drills(NetworkPolicy(), behaviour=behaviour)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert ran.pending() == 0
    assert ran.target.network.left() == ""
    assert run.verify(ran.folder, ran.key) == []


def test_policies_have_a_while_to_reach_the_nodes(run_drills: RunDrills) -> None:
    behaviour = Behaviour(ways_opened=OPENED)

    def hear(line: str) -> None:
        if line.startswith("way-open"):
            behaviour.ways_opened = ()

    ran = run_drills(NetworkPolicy(), behaviour=behaviour, hear=hear)
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.drill.facts["looks"] == 2


def test_probes_of_another_are_not_touched(run_drills: RunDrills) -> None:
    target = MemoryTarget()
    roles = target.network.begin()
    ran = run_drills(NetworkPolicy(), target=target)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert f"{len(roles)} probes still there; run `sre undo`" in ran.step("preflight").detail
    assert target.network.left() == f"{len(roles)} probes"


def test_a_killed_drill_is_undone_from_its_ledger(make_context: Callable[..., Context]) -> None:
    context = make_context("network-policy")
    drill = NetworkPolicy()
    drill.inject(context)
    (entry,) = context.ledger.pending()
    assert entry.undo.sentence == "delete every probe of the network"
    assert context.target.network.left() != ""
    context.ledger.replay(context.target)
    assert context.target.network.left() == ""


def test_a_case_without_tries_is_no_pass() -> None:
    assert NetworkPolicy().judge(Case({"roles": ["data/minio"]}, None, None)).verdicts == ()
