from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from sre.drills import run
from sre.drills.rolling_update import RollingUpdate
from sre.errors import ExitCode
from sre.targets.memory import Behaviour

if TYPE_CHECKING:
    from .conftest import RunDrills


def test_every_replica_is_replaced_and_no_request_fails(run_drills: RunDrills) -> None:
    ran = run_drills(RollingUpdate())
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.verdict("planned-changes").measured == 0
    assert [replica.restarts for replica in ran.target.replicas()] == [1, 1, 1]
    assert {replica.identity for replica in ran.target.replicas()}.isdisjoint(ran.drill.facts["victims"])
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


SABOTAGE: list[tuple[str, Behaviour, ExitCode, str]] = [
    ("no effect", Behaviour(faults_work=False), ExitCode.CANNOT_RUN, "only replicas from before"),
    ("noticed", Behaviour(failing=0.01), ExitCode.BROKEN, "requests got no prediction"),
    ("no users", Behaviour(generator="silent"), ExitCode.INCONCLUSIVE, "the load generator sent nothing"),
    ("sources differ", Behaviour(counted=0.7), ExitCode.INCONCLUSIVE, "the servers counted"),
    ("never begins", Behaviour(startup_s=math.inf), ExitCode.CANNOT_RUN, "only replicas from before"),
]


@pytest.mark.parametrize(("behaviour", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE])
def test_sabotage_never_ends_as_kept(run_drills: RunDrills, behaviour: Behaviour, exit_code: ExitCode, words: str) -> None:
    ran = run_drills(RollingUpdate(), behaviour=behaviour)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert run.verify(ran.folder, ran.key) == []
