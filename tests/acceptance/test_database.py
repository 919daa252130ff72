"""Database drills on the real system: the primary dies, an acknowledged row is taken away, and a fault that never comes."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from sre.drills import run
from sre.drills.base import Context, Options
from sre.drills.database import DatabaseDrill
from sre.drills.database_clients import Clients
from sre.drills.database_faults import DatabaseDiskFull, DatabaseRecovery, DatabaseSwitchover
from sre.drills.run import Finished
from sre.drills.world import World
from sre.errors import ExitCode
from sre.evidence import sign
from sre.faults.database import trouble
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome, Verdict
from tests.acceptance.silent import Silent

pytestmark = pytest.mark.local


class Forgetful(DatabaseSwitchover):
    """Takes an acknowledged row away before anyone looks."""

    def count(self, context: Context, clients: Clients) -> None:
        assert isinstance(context.target, LocalTarget)
        layout = context.target.layout
        with psycopg.connect(layout.dsn("drills", "drills"), passfile=str(layout.secrets / "passfile")) as connection:
            gone = connection.execute("DELETE FROM history WHERE run = %s AND seq = 7 AND writer = 0", [context.facts["run"]])
            assert gone.rowcount == 1
        super().count(context, clients)


class Harmless(DatabaseDiskFull):
    """Says that it broke something, and did not."""

    def inject(self, context: Context) -> str:
        primary = context.target.database.primary()
        assert primary is not None
        context.note(victims=[primary.name], fault="nothing", fault_at=context.target.clock.now(), primary=primary.name)
        return "nothing"


def conduct(drill: DatabaseDrill, system: LocalTarget, root: Path) -> Finished:
    world = World(system.endpoints, SCRAPE_INTERVAL_S, ANSWER_TIMEOUT_S)
    options = Options(rate=100.0)
    finished = run.run(
        [drill], system, world, root=root, signing_key=root / "key.pem", name="database", options=options, narrator=Silent()
    )
    assert not Ledger(finished.folder / LEDGER_NAME).pending()
    assert trouble(system.database) == ""
    assert run.verify(finished.folder, sign.public_key(root / "key.pem.pub")) == []
    return finished


def verdict(finished: Finished, promise: str) -> Verdict:
    return next(item for item in finished.record.drills[0].verdicts if item.promise == promise)


def test_a_dead_primary_is_replaced_and_nothing_acknowledged_is_lost(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(DatabaseRecovery(), system, tmp_path)
    assert verdict(finished, "acknowledged-writes").outcome is Outcome.KEPT
    assert verdict(finished, "database-recovery").outcome is Outcome.KEPT
    assert verdict(finished, "prediction-availability").measured == 0
    assert verdict(finished, "prediction-log").measured == 0
    facts = finished.record.drills[0].facts
    assert facts["primary_after"] != facts["primary"]
    assert facts["timeline_after"] > facts["timeline"]


def test_an_acknowledged_row_that_is_gone_breaks_the_promise(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(Forgetful(), system, tmp_path)
    lost = verdict(finished, "acknowledged-writes")
    assert (lost.outcome, lost.measured) == (Outcome.BROKEN, 1)
    assert "/0/7" in lost.why
    assert finished.record.exit_code == ExitCode.BROKEN


def test_a_fault_that_never_came_is_no_drill(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(Harmless(), system, tmp_path)
    assert finished.record.exit_code == ExitCode.CANNOT_RUN
    failed = next(step for step in finished.record.drills[0].steps if step.result == "failed")
    assert failed.name == "prove_injected"
    assert failed.detail.startswith("the fault had no effect: ")
