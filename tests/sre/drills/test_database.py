from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import Context, Options
from sre.drills.database import DatabaseDrill
from sre.drills.database_clients import Clients
from sre.drills.database_faults import DatabaseRecovery
from sre.drills.history_files import ROWS_NAME
from sre.errors import CannotRun, ExitCode
from sre.load.writers import LEDGER_NAME
from sre.targets.base import Target
from sre.targets.memory import Behaviour
from sre.verdict import Outcome
from tests.sre.cluster import ClusterTarget, Manners

if TYPE_CHECKING:
    from .conftest import Ran, RunDrills

RunDatabase = Callable[..., "Ran"]


class Recovery(DatabaseRecovery):
    """On the simulated cluster, which is its own clients."""

    writes_per_s = 40.0

    def clients(self, target: Target) -> Clients:
        assert isinstance(target, ClusterTarget)
        return target


@pytest.fixture
def run_database(run_drills: RunDrills) -> RunDatabase:
    def go(drill: DatabaseDrill | None = None, behaviour: Behaviour | None = None, **manners: Any) -> Ran:
        target = ClusterTarget(Manners(**manners), behaviour)
        return run_drills(drill or Recovery(), target=target, options=Options(rate=50.0))

    return go


def test_recovery_is_measured_by_those_who_write_and_their_history_is_compared(run_database: RunDatabase) -> None:
    ran = run_database()
    assert ran.record.exit_code == ExitCode.KEPT, ran.text
    assert [verdict.promise for verdict in ran.drill.verdicts] == [
        "prediction-availability", "database-recovery", "database-failover", "acknowledged-writes", "prediction-log",
    ]  # fmt: skip
    failover, recovery = ran.verdict("database-failover"), ran.verdict("database-recovery")
    # The outage, and at most one refused attempt that began just before its end.
    assert failover.measured is not None
    assert recovery.measured is not None
    assert 4.0 <= failover.measured <= recovery.measured <= 5.1
    loss = ran.verdict("acknowledged-writes")
    assert loss.measured == 0
    assert loss.n > 1000
    assert ran.drill.fault is not None
    assert ran.drill.fault.name == "SIGKILL of the database server postgres-1"
    assert ran.drill.facts["primary_after"] == "postgres-2"
    assert ran.drill.facts["timeline_after"] == 2
    assert run.verify(ran.folder, ran.key) == []


SABOTAGE: list[tuple[str, dict[str, Any], ExitCode, str]] = [
    ("a lost row", {"lost": 1}, ExitCode.BROKEN, "1 rows lost, first "),
    ("a prediction that is not in the log", {"unrecorded": 1}, ExitCode.BROKEN, "requests in the log"),
    ("a record given up", {"dropped": 3.0}, ExitCode.BROKEN, "3 dropped by the replicas"),
    ("nobody knows what was given up", {"dropped": None}, ExitCode.INCONCLUSIVE, "what the replicas dropped is not known"),
    ("no write before the fault", {"takes": False}, ExitCode.INCONCLUSIVE, "no write was acknowledged before the fault"),
    ("no effect", {"bites": False}, ExitCode.CANNOT_RUN, "the fault had no effect"),
    ("slow", {"outage_s": 31.0}, ExitCode.BROKEN, "the first acknowledged write after 31."),
    ("a failed prediction", {"behaviour": Behaviour(failing=0.001)}, ExitCode.BROKEN, "requests got no prediction"),
]  # fmt: skip


@pytest.mark.parametrize(("manners", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE])
def test_sabotage_never_ends_as_kept_and_is_undone(
    run_database: RunDatabase, manners: dict[str, Any], exit_code: ExitCode, words: str
) -> None:
    ran = run_database(**manners)
    assert words in ran.text
    assert ran.record.exit_code == exit_code, ran.text
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


def test_writes_that_never_come_back_are_broken_and_the_rest_is_judged(run_database: RunDatabase) -> None:
    ran = run_database(outage_s=math.inf)
    assert ran.verdict("database-recovery").outcome is Outcome.BROKEN
    assert ran.verdict("database-failover").why.startswith("the first acknowledged write was not seen in ")
    assert ran.verdict("prediction-availability").outcome is Outcome.KEPT
    # The crashed server stays away, so the cluster is not whole and the ledger still holds the undo.
    assert ran.record.exit_code == ExitCode.UNDO_INCOMPLETE
    assert ran.pending() == 1


def test_a_cluster_that_is_not_whole_is_not_hurt(run_drills: RunDrills) -> None:
    target = ClusterTarget()
    target.cluster.lose_store(["postgres-3"])
    ran = run_drills(Recovery(), target=target)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "the database cluster to be whole not within 30 s (last seen: the store of postgres-3" in ran.step("preflight").detail
    assert ran.drill.verdicts == ()


def test_a_target_without_a_cluster_says_what_is_missing(run_drills: RunDrills) -> None:
    ran = run_drills(DatabaseRecovery())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert ran.step("preflight").detail == "target memory cannot do database-cluster, which database-recovery needs"


def test_a_restored_place_says_what_is_missing(make_context: Callable[..., Context]) -> None:
    class Single(ClusterTarget):
        @property
        def database(self) -> Any:
            raise CannotRun("its database is a single server")

    context = make_context("database-recovery")
    context.target = context.observers = Single()
    with pytest.raises(CannotRun, match="single server"):
        Recovery().preflight(context)


def test_a_promotion_that_was_not_expected_is_a_finding(run_database: RunDatabase) -> None:
    class Calm(Recovery):
        promotes = False

    ran = run_database(Calm())
    assert "primary postgres-1 before and postgres-2 after, which was not expected" in ran.drill.findings


@pytest.mark.parametrize("name", [LEDGER_NAME, ROWS_NAME])
def test_the_verdict_is_computed_again_from_the_history_on_file(run_database: RunDatabase, name: str) -> None:
    ran = run_database()
    file = ran.folder / "drills" / "database-recovery" / name
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    # The row of a write that was acknowledged, and in the ledger the two lines of such a write.
    file.write_text("".join(lines[2:]), encoding="utf-8")
    wrong = run.verify(ran.folder, ran.key)
    assert f"drills/database-recovery/{name}" in " ".join(wrong)
    assert "database-recovery: the verdicts computed from the raw files are not those that were recorded" in wrong


def test_the_writers_end_with_the_drill_however_it_ends(run_database: RunDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    write = ClusterTarget.write

    def remember(self: ClusterTarget, run: str, plan: Any, folder: Path) -> Any:
        begun.append(write(self, run, plan, folder))
        return begun[-1]

    monkeypatch.setattr(ClusterTarget, "write", remember)
    ran = run_database(bites=False)
    assert ran.step("recover").result == "skipped"
    assert [writers.running() for writers in begun] == [False]
