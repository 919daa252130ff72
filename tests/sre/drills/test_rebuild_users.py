"""Users of a system that may be made again: on the real local system, and on nobody's."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from sre.drills.history_files import read_history
from sre.drills.rebuild_users import Only, RealUsers, users_of
from sre.errors import CannotRun, StepFailed
from sre.judges.history import Fate
from sre.readings import LoadPlan
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryTarget


def users(system: LocalTarget) -> RealUsers:
    return RealUsers(system.layout.dsn("drills", "drills"), lambda: system.endpoints)


def test_a_target_that_is_no_cluster_says_so() -> None:
    with pytest.raises(CannotRun, match="target memory is no cluster with users on this machine; use target kubernetes"):
        users_of(MemoryTarget())


@pytest.mark.local
def test_one_writer_writes_and_its_rows_are_found(system: LocalTarget, tmp_path: Path) -> None:
    run = f"test-{uuid.uuid4()}-{os.getpid()}"
    load = Only(users(system).write(run, LoadPlan(20.0, 60.0, 1), tmp_path))
    assert load.running()
    assert load.progress() == "a writer writes"
    time.sleep(1.0)
    with pytest.raises(StepFailed, match="no API key"):
        load.show("any")
    load.stop()
    assert load.progress() == "the writer has ended"
    history = read_history(tmp_path)
    assert history is not None
    acked = {attempt.key for attempt in history.attempts if attempt.fate is Fate.ACKED}
    assert {key.writer for key in acked} == {0}
    assert {row.key for row in users(system).rows(run)} == acked != set()


@pytest.mark.local
def test_a_recorded_prediction_is_made_again_bit_by_bit(system: LocalTarget) -> None:
    request_id, deadline, recorded = f"drill-{uuid.uuid4()}", time.monotonic() + 30, None
    while recorded is None and time.monotonic() < deadline:
        time.sleep(0.1)
        with contextlib.suppress(StepFailed):
            recorded = users(system).record(request_id)
    assert recorded is not None
    again = users(system).repeat(request_id)
    # As the drill does: each replica chooses its own variant of the model, and only those with the recorded one make its bits.
    while again["why"].startswith("it has other bits") and time.monotonic() < deadline:
        again = users(system).repeat(request_id)
    assert (again["recorded"], again["repeated"], again["why"]) == (recorded["bits"], recorded["bits"], "")
    assert users(system).repeat("drill-never")["why"] == "it is not in the log that came back"


@pytest.mark.local
def test_a_system_that_is_gone_has_no_answer(system: LocalTarget) -> None:
    gone = replace(system.endpoints, database="postgresql://drills@127.0.0.1:9/drills", ingress="https://127.0.0.1:9")
    lost = RealUsers(gone.database, lambda: gone)
    with pytest.raises(StepFailed, match="the prediction log cannot be asked"):
        lost.record("drill-1")
    with pytest.raises(StepFailed, match="the stamped rows cannot be read"):
        lost.rows("run")
    assert lost.repeat("drill-1")["repeated"] is None
    assert "refused" in lost.repeat("drill-1")["why"]
