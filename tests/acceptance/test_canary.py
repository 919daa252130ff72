"""A rollout on the real system: the canary is killed, users notice nothing, and its record can be replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sre.canary import replay
from sre.config import Settings
from sre.drills import run
from sre.drills.base import Options, read_case
from sre.drills.canary_faults import CanaryCrash, CanaryGood
from sre.drills.world import World
from sre.evidence import sign
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome
from tests.acceptance.silent import Silent

pytestmark = pytest.mark.local


@pytest.mark.timeout(600)
def test_a_canary_that_crashes_is_rolled_back_and_nobody_notices(
    system: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rollout is a process of its own and signs with the key that its environment names.
    monkeypatch.setenv("SRE_SIGNING_KEY", str(tmp_path / "key.pem"))
    assert Settings().signing_key == tmp_path / "key.pem"
    world = World(system.endpoints, SCRAPE_INTERVAL_S, ANSWER_TIMEOUT_S)
    before = system.versions()
    finished = run.run(
        [CanaryCrash()], system, world, root=tmp_path, signing_key=tmp_path / "key.pem", name="canary",
        options=Options(rate=100.0), narrator=Silent(),
    )  # fmt: skip
    key = sign.public_key(tmp_path / "key.pem.pub")
    record = finished.record.drills[0]
    verdicts = {verdict.promise: verdict for verdict in record.verdicts}
    assert verdicts["canary"].outcome is Outcome.KEPT, record
    assert verdicts["canary-requests"].measured == 0
    assert system.router.split() is None
    assert system.versions() == before
    assert not Ledger(finished.folder / LEDGER_NAME).pending()
    assert run.verify(finished.folder, key) == []
    assert replay.verify(finished.folder / record.folder / record.facts["record"], key) == []

    # A gate that rolls a good version back is as broken as one that lets a bad one through.
    case = read_case(finished.folder / record.folder, record.facts)
    assert CanaryGood().judge(case).verdicts[0].outcome is Outcome.BROKEN
