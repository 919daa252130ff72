"""`restore` on the real system: clean, with an object of the backup altered before anyone needed it, and from the other copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from sre.dr import sets, vault
from sre.dr.place import Restored
from sre.dr.sets import Place
from sre.drills import run
from sre.drills.base import Context, Options
from sre.drills.restore import Restore
from sre.drills.run import Finished
from sre.drills.world import World
from sre.errors import ExitCode
from sre.evidence import sign
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.local.database import SUPERUSER
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome
from tests.acceptance.silent import Silent

pytestmark = pytest.mark.local

MEDDLING: dict[str, LiteralString] = {
    "predictions": "UPDATE predictions SET request_id = request_id || 'x' WHERE ctid = (SELECT min(ctid) FROM predictions)",
    "mlflow": "DELETE FROM registered_model_aliases",
    "drills": "ALTER TABLE history ADD extra int",
}


class Flipped(Restore):
    """Flips a bit of an image in the vault once the set is there."""

    victim = ""

    def inject(self, context: Context) -> str:
        seen = super().inject(context)
        assert isinstance(context.target, LocalTarget)
        root = sets.places(context.target.layout.home)["store"]
        item = sets.listing(root).sets[context.facts["set"]]
        self.victim = next(name for name in sorted(item.objects) if name.endswith(".png"))
        path = vault.path_of(root, item.objects[self.victim].sha256)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return seen


class Meddled(Flipped):
    """Alters what was restored, before it is examined, too: one thing for each of several points."""

    altered = 0

    def _begin(self, context: Context, home: Path) -> Restored:
        restored = super()._begin(context, home)
        layout = restored.target.layout
        for database, statement in MEDDLING.items():
            passfile = str(layout.secrets / "passfile")
            with psycopg.connect(layout.dsn(SUPERUSER, database), passfile=passfile) as connection:
                self.altered += max(0, connection.execute(statement).rowcount)
        next((layout.objects / "ml-datasets").glob("*/0/*.png")).unlink()
        return restored


def conduct(drill: Restore, system: LocalTarget, root: Path, place: Place = "store") -> Finished:
    world = World(system.endpoints, SCRAPE_INTERVAL_S, ANSWER_TIMEOUT_S)
    options, key = Options(place=place), root / "key.pem"
    finished = run.run([drill], system, world, root=root, signing_key=key, name="restore", options=options, narrator=Silent())
    assert not Ledger(finished.folder / LEDGER_NAME).pending()
    assert not [path for path in (system.layout.home / "restored").iterdir() if path.is_dir()]
    assert run.verify(finished.folder, sign.public_key(root / "key.pem.pub")) == []
    return finished


def verdicts(finished: Finished) -> dict[str, Any]:
    return {verdict.promise: verdict for verdict in finished.record.drills[0].verdicts}


def test_a_clean_restore_passes_every_point(system: LocalTarget, tmp_path: Path) -> None:
    finished = conduct(Restore(), system, tmp_path)
    judged = verdicts(finished)
    assert set(judged) == set(Restore.promises), [step for step in finished.record.drills[0].steps if step.result != "ok"]
    for promise in ("restore-content", "restore-checklist"):
        assert judged[promise].measured == 0, judged[promise].why
    assert judged["restore-content"].n > 1800
    assert finished.record.outcome is not Outcome.BROKEN
    kept = sets.listing(sets.places(system.layout.home)["store"])
    made = finished.record.drills[0].facts["set"]
    assert kept.checks[made].wrong == []


def test_an_altered_object_is_named_and_breaks_the_checklist(system: LocalTarget, tmp_path: Path) -> None:
    drill = Flipped()
    finished = conduct(drill, system, tmp_path)
    judged = verdicts(finished)
    assert judged["restore-checklist"].outcome is Outcome.BROKEN
    assert f"object {drill.victim} is altered" in judged["restore-checklist"].why
    assert finished.record.exit_code == ExitCode.BROKEN
    failed = next(step for step in finished.record.drills[0].steps if step.result == "failed")
    assert failed.name == "recover"
    assert drill.victim in failed.detail


def test_each_thing_that_was_altered_after_a_restore_fails_its_point(system: LocalTarget, tmp_path: Path) -> None:
    meddled = Meddled()
    # From the other copy the object that is damaged in the store comes back whole.
    finished = conduct(meddled, system, tmp_path, "off_site")
    drill = finished.record.drills[0]
    failed = {finding[0]: finding for finding in drill.findings if "FAILED" in finding}
    assert set(failed) == {"5", "6", "7"}, drill.findings
    assert "predictions.public.predictions" in failed["5"]
    assert "mlflow.public.registered_model_aliases" in failed["5"]
    assert "drills has other definitions" in failed["6"]
    assert "aliases none" in failed["7"]
    content = verdicts(finished)["restore-content"]
    # The altered prediction is lost as it was and invented as it is; and an object is lost.
    assert (content.outcome, content.measured) == (Outcome.BROKEN, meddled.altered + 2)
    assert len(drill.facts["objects"]["lost"]) == 1
    assert finished.record.exit_code == ExitCode.BROKEN
