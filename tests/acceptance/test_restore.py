"""`backup-restore` on the real system: clean, and with a backup that was altered before anyone needed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sre.dr import objects, place
from sre.drills import run
from sre.drills.backup_restore import BackupRestore
from sre.drills.base import Context, Options
from sre.drills.run import Finished
from sre.drills.world import World
from sre.errors import ExitCode
from sre.evidence.schema import StepRecord
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome

pytestmark = pytest.mark.local


class Silent:
    """A narrator that says nothing."""

    def drill(self, name: str, sentence: str, target: str) -> None:
        pass

    def step(self, step: StepRecord) -> None:
        pass

    def say(self, line: str) -> None:
        pass


class Altered(BackupRestore):
    """Flips a byte of the backup's largest table file once the backup is there."""

    def inject(self, context: Context) -> str:
        seen = super().inject(context)
        assert isinstance(context.target, LocalTarget)
        backup = context.target.layout.objects / objects.BACKUPS / context.facts["backup"] / place.DATABASE / "base"
        victim = max((path for path in backup.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        return seen


class Forgetful(BackupRestore):
    """Loses an object of the backup, which no tool of PostgreSQL can notice."""

    def prove_injected(self, context: Context) -> str:
        seen = super().prove_injected(context)
        assert isinstance(context.target, LocalTarget)
        backup = context.target.layout.objects / objects.BACKUPS / context.facts["backup"] / place.OBJECTS
        next(backup.glob("ml-datasets/*/0/*.png")).unlink()
        return seen


def conduct(drill: BackupRestore, system: LocalTarget, root: Path) -> Finished:
    world = World(system.endpoints, SCRAPE_INTERVAL_S, ANSWER_TIMEOUT_S)
    finished = run.run([drill], system, world, root=root, name="restore", options=Options(), narrator=Silent())
    assert not Ledger(finished.folder / LEDGER_NAME).pending()
    assert not list((system.layout.objects / objects.BACKUPS).iterdir())
    assert not [path for path in (system.layout.home / "restored").iterdir() if path.is_dir()]
    return finished


def verdicts(finished: Finished) -> dict[str, Any]:
    return {verdict.promise: verdict for verdict in finished.record.drills[0].verdicts}


def test_a_clean_restore_holds_everything(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(BackupRestore(), system, tmp_path)
    content = verdicts(finished)["restore-content"]
    assert content.measured == 0, content.why
    assert content.n > 1800
    assert finished.record.outcome is not Outcome.BROKEN
    assert run.verify(finished.folder) == []


def test_an_altered_backup_is_found_before_it_is_restored(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(Altered(), system, tmp_path)
    assert finished.record.exit_code == ExitCode.CANNOT_RUN
    failed = next(step for step in finished.record.drills[0].steps if step.result == "failed")
    assert failed.name == "prove_injected"
    assert "pg_verifybackup failed" in failed.detail


def test_a_lost_object_breaks_the_promise(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(Forgetful(), system, tmp_path)
    content = verdicts(finished)["restore-content"]
    assert (content.outcome, content.measured) == (Outcome.BROKEN, 1)
    assert ".png lost" in content.why
    assert finished.record.exit_code == ExitCode.BROKEN
