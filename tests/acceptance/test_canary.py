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

# Of what a busy machine makes slow nothing is asked: the forecast would refuse a rollout that cannot get through.
PLAN = """\
schema: sre.canary/1
name: digits-resnet8
scrape: 2s
errors: {rollback: 1%, promote: 5%, sample_ratio: 0.1%}
requests: http_requests_total{job="serving",path="/predict",track="$track"}
stages:
  - {weight: 10%, at_least: 60s, at_most: 15m}
  - {weight: 100%, at_least: 10s, at_most: 2m}
no_data: {rollback_after: 1m}
at_deadline: rollback
metrics:
  errors:
    kind: ratio
    events: http_requests_total{job="serving",path="/predict",track="$track",status=~"5.."}
    of: requests
    margin: 3x
    model: independent
    negligible: 5%
    objective: {at_most: 5%}
  crashes: {kind: crashes, started: 'process_start_time_seconds{job="serving",track="$track"}', limit: 0}
"""


@pytest.mark.timeout(600)
def test_a_canary_that_crashes_is_rolled_back_and_nobody_notices(
    system: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rollout is a process of its own and signs with the key that its environment names.
    monkeypatch.setenv("SRE_SIGNING_KEY", str(tmp_path / "key.pem"))
    assert Settings().signing_key == tmp_path / "key.pem"
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN, encoding="utf-8")
    monkeypatch.setattr(CanaryCrash, "plan_file", plan)
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
