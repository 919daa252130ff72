from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.canary import session
from sre.canary.session import Finished
from sre.drills import run as drills
from sre.errors import CannotRun, EvidenceDamaged, ExitCode, UsageError
from sre.evidence import bundle, codec, journal, sign
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.local import processes
from sre.verdict import Outcome
from tests.sre.canary.rolling import Stage, staged
from tests.sre.canary.test_rollout import Killed


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as made:
        yield made


def dead_process() -> str:
    """The identity of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = processes.identity(child.pid)
    child.communicate()
    return identity


@pytest.fixture
def killed(stage: Stage) -> Path:
    """The folder of a rollout that was killed at its third look, as its dead process left it."""

    def kill(_: object) -> None:
        if len(stage.view.snapshots) == 3:
            (folder,) = stage.place.root.iterdir()
            shutil.copytree(folder, stage.place.root / "left")
            raise Killed

    stage.view.each = kill
    with pytest.raises(Killed):
        stage.begin()
    stage.view.each = lambda _: None
    (folder,) = (path for path in stage.place.root.iterdir() if path.name != "left")
    shutil.rmtree(folder)
    (stage.place.root / "left").rename(folder)
    ours, dead = processes.identity(os.getpid()), dead_process()
    lines = journal.read(folder / bundle.JOURNAL)
    (folder / bundle.JOURNAL).unlink()
    again = journal.Journal(folder / bundle.JOURNAL, stage.target.clock)
    for line in lines:
        fields = {name: value for name, value in line.items() if name not in {"seq", "t", "at", "event", "prev"}}
        again.write(line["event"], **json.loads(json.dumps(fields).replace(ours, dead)))
    with (folder / "drills" / "canary" / "looks.jsonl.gz").open("ab") as file:
        file.write(b"torn by the kill")
    return folder


def test_a_finished_rollout_is_signed_evidence(stage: Stage) -> None:
    done = stage.begin()
    key = sign.public_key(sign.public_path(stage.place.signing_key))
    assert drills.verify(done.folder, key) == []
    assert codec.dump(bundle.load(done.folder)) == codec.dump(done.record)
    (verdict,) = done.record.drills[0].verdicts
    assert verdict.outcome is Outcome.KEPT
    assert verdict.measured is not None
    assert verdict.measured < verdict.bound == 0.05
    assert verdict.n > 1000
    report = (done.folder / bundle.REPORT_HTML).read_text()
    assert "promoted" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert (done.folder / "drills" / "canary" / "plan.yaml").read_text() == stage.plan_file.read_text()


def test_a_killed_rollout_is_resumed(stage: Stage, killed: Path) -> None:
    done = session.resume(killed, stage.target, stage.around, stage.place)
    assert done.record.exit_code == ExitCode.KEPT
    assert drills.verify(done.folder, sign.public_key(sign.public_path(stage.place.signing_key))) == []
    with pytest.raises(CannotRun, match="is over"):
        session.resume(killed, stage.target, stage.around, stage.place)


def test_a_killed_rollout_is_aborted(stage: Stage, killed: Path) -> None:
    done = session.abort(killed, stage.target, stage.around, stage.place, "somebody")
    assert (done.record.outcome, done.record.exit_code) == (Outcome.ERROR, ExitCode.INTERRUPTED)
    assert stage.untouched
    assert Ledger(killed / LEDGER_NAME).pending() == []
    assert drills.verify(done.folder, sign.public_key(sign.public_path(stage.place.signing_key))) == []


def test_a_rollout_under_way_is_not_taken_over(stage: Stage) -> None:
    def try_it(_: object) -> None:
        (folder,) = stage.place.root.iterdir()
        with pytest.raises(CannotRun, match="still under way in process"):
            session.resume(folder, stage.target, stage.around, stage.place)
        raise KeyboardInterrupt

    stage.view.each = try_it
    assert stage.begin().record.exit_code == ExitCode.INTERRUPTED


def test_a_run_that_is_no_rollout_is_refused(stage: Stage, tmp_path: Path) -> None:
    other = bundle.create(tmp_path, "other", stage.target.clock)
    other.journal.write("run", handle=None, process="")
    with pytest.raises(UsageError, match="is no rollout"):
        session.resume(other.folder, stage.target, stage.around, stage.place)


def test_an_altered_plan_is_not_gone_on_with(stage: Stage, killed: Path) -> None:
    plan = killed / "drills" / "canary" / "plan.yaml"
    plan.write_text(plan.read_text().replace("rollback: 1%", "rollback: 40%"))
    with pytest.raises(EvidenceDamaged, match="not the plan that the rollout began with"):
        session.resume(killed, stage.target, stage.around, stage.place)


def test_what_is_kept_is_not_undone_later(stage: Stage) -> None:
    done: Finished = stage.begin()
    assert Ledger(done.folder / LEDGER_NAME).replay(stage.target) == []
    assert drills.undo(done.folder, stage.place.root) == []
