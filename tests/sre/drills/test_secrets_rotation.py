"""The whole drill on simulated replicas: kept, and not kept in every way in which they can disappoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sre.drills import run
from sre.drills.base import Context
from sre.drills.secrets_rotation import HOLDER, SecretsRotation
from sre.errors import ExitCode
from sre.targets.memory import Behaviour, MemoryTarget
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills


def test_a_key_is_rotated_and_nobody_notices(run_drills: RunDrills) -> None:
    ran = run_drills(SecretsRotation())
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.verdict("key-rotation").measured == 0
    withdrawal = ran.verdict("key-withdrawal")
    assert withdrawal.measured == pytest.approx(30.0, abs=1.0)
    assert withdrawal.interval is not None
    assert withdrawal.interval[0] < 30.0 <= withdrawal.interval[1] == withdrawal.measured
    assert ran.pending() == 0
    assert ran.target.keys.held(HOLDER) == 0
    assert run.verify(ran.folder, ran.key) == []


def test_no_key_is_in_evidence_or_ledger(run_drills: RunDrills) -> None:
    drill = SecretsRotation()
    ran = run_drills(drill)
    written = b"".join(path.read_bytes() for path in ran.folder.rglob("*") if path.is_file())
    assert HOLDER.encode() in written
    for key in (drill._old, drill._new):
        assert key.encode() not in written


SABOTAGE: list[tuple[str, Behaviour, ExitCode, str]] = [
    (
        "old key still accepted",
        Behaviour(keys_forgotten=False),
        ExitCode.BROKEN,
        "the last replica refuses the old key was not seen",
    ),
    ("too slow", Behaviour(keys_follow_s=150.0), ExitCode.BROKEN, "the last replica refuses the old key after 150.0 s"),
    ("requests fail", Behaviour(failing=0.01), ExitCode.BROKEN, "requests got no prediction"),
    ("nobody follows", Behaviour(keys_follow_s=math.inf), ExitCode.CANNOT_RUN, "every replica to know the key not within 180 s"),
    ("no effect", Behaviour(faults_work=False), ExitCode.CANNOT_RUN, "not yet serving-1 (401)"),
    ("no users", Behaviour(generator="silent"), ExitCode.INCONCLUSIVE, "the load generator sent nothing"),
    ("sources differ", Behaviour(counted=0.7), ExitCode.INCONCLUSIVE, "the servers counted"),
]


@pytest.mark.parametrize(("behaviour", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE])
def test_sabotage_never_ends_as_kept(run_drills: RunDrills, behaviour: Behaviour, exit_code: ExitCode, words: str) -> None:
    ran = run_drills(SecretsRotation(), behaviour=behaviour)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert ran.pending() == 0
    assert ran.target.keys.held(HOLDER) == 0
    assert run.verify(ran.folder, ran.key) == []


def test_a_key_that_is_still_accepted_breaks_its_promise_by_name(run_drills: RunDrills) -> None:
    ran = run_drills(SecretsRotation(), behaviour=Behaviour(keys_forgotten=False))
    assert ran.verdict("key-withdrawal").outcome is Outcome.BROKEN
    assert ran.verdict("key-rotation").outcome is Outcome.INCONCLUSIVE


def test_clients_that_keep_the_old_key_fail(run_drills: RunDrills) -> None:
    class Forgetful(SecretsRotation):
        def recover(self, context: Context) -> str:
            assert context.load is not None
            context.load.show = lambda key: None  # type: ignore[method-assign]
            return super().recover(context)

    ran = run_drills(Forgetful())
    assert ran.verdict("key-rotation").outcome is Outcome.BROKEN


def test_a_key_of_an_earlier_drill_is_not_touched(run_drills: RunDrills) -> None:
    target = MemoryTarget()
    target.keys.grant(HOLDER, ["left"])
    ran = run_drills(SecretsRotation(), target=target)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert f"1 API keys of {HOLDER} are listed; run `sre undo`" in ran.step("preflight").detail
    assert target.keys.held(HOLDER) == 1


def test_the_undo_is_on_disk_before_a_key_is_listed(make_context: Callable[..., Context]) -> None:
    context = make_context("secrets-rotation", Behaviour(keys_follow_s=math.inf))
    drill = SecretsRotation()
    with pytest.raises(Exception, match="every replica to know the key"):
        drill.steady(context)
    (entry,) = context.ledger.pending()
    assert dict(entry.undo.arguments) == {"holder": HOLDER}
    assert context.target.keys.held(HOLDER) == 1
    context.ledger.replay(context.target)
    assert context.target.keys.held(HOLDER) == 0
