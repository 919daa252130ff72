from __future__ import annotations

import math

import pytest

from sre.errors import ExitCode, StepFailed
from sre.evidence.history import Trials
from sre.promises import promise
from sre.targets.memory import Behaviour, MemoryTarget
from tests.studies.recovery.__main__ import conclusion, freshen


def trials(kept: int, broken: int = 0, undecided: int = 0) -> Trials:
    return Trials(
        promise=promise("pod-recovery"), drill="pod-recovery", target="kubernetes",
        measured=(4.0,) * kept + (math.inf,) * broken, kept=kept, undecided=undecided,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([trials(59)], ExitCode.KEPT),
        ([trials(58)], ExitCode.BROKEN),
        ([trials(59), trials(58, broken=1)], ExitCode.BROKEN),
        ([trials(59, undecided=1)], ExitCode.BROKEN),
        ([], ExitCode.BROKEN),
    ],
)
def test_only_runs_that_all_kept_everything_are_good(found: list[Trials], code: ExitCode) -> None:
    assert conclusion(found, 59) is code


def test_every_replica_is_another_before_a_run() -> None:
    target = MemoryTarget()
    before = {replica.identity for replica in target.replicas()}
    freshen(target)
    assert before.isdisjoint(replica.identity for replica in target.replicas())
    assert all(replica.ready for replica in target.replicas())


def test_replicas_that_stay_are_told() -> None:
    with pytest.raises(StepFailed, match="replicas are not fresh within 300 s"):
        freshen(MemoryTarget(Behaviour(faults_work=False)))
