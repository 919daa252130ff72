from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sre.drills import run
from sre.drills.base import Options
from sre.drills.scale_out import ScaleOut
from sre.errors import ExitCode
from sre.targets.memory import Behaviour, MemoryTarget

if TYPE_CHECKING:
    from .conftest import RunDrills

FEW = Options(rate=50.0)


def test_replicas_follow_the_load_and_go_after_it(run_drills: RunDrills) -> None:
    ran = run_drills(ScaleOut(), options=FEW)
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.verdict("scale-out").why == "3 replicas, 5 wanted under the load, 3 at the end; one more served after 30 s"
    assert run.verify(ran.folder, ran.key) == []


SABOTAGE: list[tuple[str, Behaviour, ExitCode, str]] = [
    ("two at once", Behaviour(scale_up_s=0.5), ExitCode.BROKEN, "in one step"),
    ("too fast", Behaviour(scale_up_s=10.0), ExitCode.BROKEN, "10 s after the step before it, 30 s at least"),
    ("gone too soon", Behaviour(scale_down_s=60.0), ExitCode.BROKEN, "60 s after the step before it, 300 s at least"),
    ("never gone", Behaviour(scale_down_s=1e9), ExitCode.BROKEN, "5 still wanted"),
    ("never serve", Behaviour(scaled_ready=False), ExitCode.BROKEN, "3 of the 5 wanted ever served"),
    ("no need", Behaviour(scale_to=3), ExitCode.INCONCLUSIVE, "never wanted more than 3 replicas"),
    ("no users", Behaviour(generator="silent"), ExitCode.INCONCLUSIVE, "the load generator sent nothing"),
    ("dead load", Behaviour(generator="dead"), ExitCode.CANNOT_RUN, "died without a recording"),
    ("sources differ", Behaviour(counted=0.7), ExitCode.INCONCLUSIVE, "the servers counted"),
]


@pytest.mark.parametrize(("behaviour", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE])
def test_sabotage_never_ends_as_kept(run_drills: RunDrills, behaviour: Behaviour, exit_code: ExitCode, words: str) -> None:
    ran = run_drills(ScaleOut(), behaviour=behaviour, options=FEW)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert run.verify(ran.folder, ran.key) == []


def test_a_system_that_is_scaled_out_already_proves_nothing(run_drills: RunDrills) -> None:
    target = MemoryTarget()
    run_drills(ScaleOut(), options=FEW, target=target)
    ran = run_drills(ScaleOut(), behaviour=Behaviour(replicas=20), options=FEW)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "20 replicas are wanted, of 3 to 20" in ran.text
