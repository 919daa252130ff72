"""The short form of the study: four schedules on a real cluster in strict mode, and a loss made by hand that it must see."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from sre.judges.history import check
from sre.load import ledger_file, writers
from sre.targets.local import target
from sre.targets.local.target import LocalTarget
from tests.studies.failover import cluster, report, study
from tests.studies.failover.journal import StudyJournal

pytestmark = [pytest.mark.local, pytest.mark.timeout(1200)]
SCHEDULES, SIDE_BY_SIDE = 4, 2


@pytest.fixture(scope="module")
def clusters(programs: Path) -> Iterator[list[LocalTarget]]:
    with tempfile.TemporaryDirectory(prefix="failover-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        homes = [folder / f"home-{number}" for number in range(SIDE_BY_SIDE)]
        yield [target.up(home, programs, parts="cluster", synchronous="strict")[0] for home in homes]
        for home in homes:
            target.down(home, purge=True)


def test_no_acknowledged_write_is_lost(clusters: list[LocalTarget], tmp_path: Path) -> None:
    journal = StudyJournal(tmp_path / "journal.jsonl", {"mode": "strict"})
    executes = [partial(cluster.execute, one, folder=tmp_path, rate=cluster.RATE) for one in clusters]
    found = study.run(journal, range(SCHEDULES), executes, lambda _: None)
    shown = report.summary(found)
    assert not shown.lossy
    assert not [sentence for sentence in shown.set_aside if "acknowledged writes" not in sentence], shown.set_aside
    assert sum(result.acked for result in found) > SCHEDULES * 1000


def test_a_row_that_vanishes_is_seen(clusters: list[LocalTarget], tmp_path: Path) -> None:
    layout = clusters[0].layout
    dsn, passfile = layout.dsn("drills", "drills"), str(layout.secrets / "passfile")
    job = writers.Job(
        dsn=dsn, passfile=passfile, run="sabotage", writers=2, rate=50.0, seconds=3.0, seed=1,
        ledger=str(tmp_path / "ledger.jsonl"), parent=os.getpid(),
    )  # fmt: skip
    writers.start(job, tmp_path / "writers").wait()
    attempts = ledger_file.read(Path(job.ledger))
    assert not check(attempts, writers.rows(dsn, passfile, "sabotage")).lost
    with psycopg.connect(dsn, passfile=passfile) as connection:
        connection.execute("DELETE FROM history WHERE run = 'sabotage' AND writer = 1 AND seq = 5")
    assert len(check(attempts, writers.rows(dsn, passfile, "sabotage")).lost) == 1
