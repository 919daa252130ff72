from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import Case, Options
from sre.drills.peak_load import PeakLoad
from sre.errors import ExitCode, StepFailed
from sre.readings import LoadPlan
from sre.targets.memory import Behaviour
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import RunDrills

SHORT = Options(seconds=20.0)


def test_a_thousand_a_second_is_kept(run_drills: RunDrills) -> None:
    ran = run_drills(PeakLoad(), options=SHORT)
    assert ran.record.exit_code == ExitCode.KEPT
    assert [verdict.promise for verdict in ran.drill.verdicts] == list(PeakLoad.promises)
    assert all(verdict.outcome is Outcome.KEPT for verdict in ran.drill.verdicts)
    assert ran.drill.findings == ()
    assert ran.drill.fault is None
    assert ran.step("steady").seconds == 5.0
    assert run.verify(ran.folder, ran.key) == []


def test_the_load_is_that_of_the_promise_unless_the_options_say_otherwise() -> None:
    assert PeakLoad().plan(Options()) == LoadPlan(rate=1050.0, seconds=65.0, seed=1)
    assert PeakLoad().plan(Options(rate=20.0, seconds=600.0, seed=7)) == LoadPlan(rate=20.0, seconds=605.0, seed=7)


def test_too_short_a_load_is_inconclusive(run_drills: RunDrills) -> None:
    ran = run_drills(PeakLoad(), options=Options(seconds=5.0))
    assert ran.record.exit_code == ExitCode.INCONCLUSIVE
    assert run.verify(ran.folder, ran.key) == []


SABOTAGE: list[tuple[str, Behaviour, Mapping[str, Mapping[str, Any]], ExitCode, str]] = [
    ("no load", Behaviour(generator="silent"), {}, ExitCode.INCONCLUSIVE, "the load generator sent nothing"),
    ("dead load", Behaviour(generator="dead"), {}, ExitCode.CANNOT_RUN, "the load ended by itself"),
    ("no replica", Behaviour(replicas=0), {}, ExitCode.CANNOT_RUN, "no replica at all"),
    ("no answer", Behaviour(service_s=9.0), {}, ExitCode.CANNOT_RUN, "a user's request was answered 502"),
    ("only errors", Behaviour(failing=1.0), {}, ExitCode.CANNOT_RUN, "a user's request was answered 500"),
    ("too slow", Behaviour(service_s=0.8), {}, ExitCode.BROKEN, "95 % of"),
    ("errors", Behaviour(failing=0.01), {}, ExitCode.BROKEN, "requests got no prediction"),
    ("errors at the edge", Behaviour(failing=0.0009), {}, ExitCode.INCONCLUSIVE, "past the bound"),
    ("no metric", Behaviour(metric=False), {}, ExitCode.CANNOT_RUN, "no counter of a replica"),
    ("metric lost", Behaviour(), {"steady": {"metric": False}}, ExitCode.INCONCLUSIVE, "counters could not be read"),
    ("no Prometheus", Behaviour(prometheus=False), {}, ExitCode.CANNOT_RUN, "no counter of a replica"),
    ("Prometheus lost", Behaviour(), {"recover": {"prometheus": False}}, ExitCode.INCONCLUSIVE, "counters could not be read"),
    ("sources differ", Behaviour(counted=0.7), {}, ExitCode.INCONCLUSIVE, "the servers counted"),
    ("late generator", Behaviour(late_s=0.1), {}, ExitCode.INCONCLUSIVE, "left more than 50 ms late"),
    ("busy generator", Behaviour(cpu=0.95), {}, ExitCode.INCONCLUSIVE, "the load generator used 95% of a core"),
]


@pytest.mark.parametrize(
    ("behaviour", "after", "exit_code", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE]
)
def test_sabotage_never_ends_as_kept(
    run_drills: RunDrills, behaviour: Behaviour, after: Mapping[str, Mapping[str, Any]], exit_code: ExitCode, words: str
) -> None:
    ran = run_drills(PeakLoad(), behaviour=behaviour, after=after, options=SHORT)
    assert ran.record.exit_code == exit_code
    assert words in ran.text
    assert ran.step("undo").result == "ok"
    assert run.verify(ran.folder, ran.key) == []


def test_a_rate_below_the_promise_breaks_it(run_drills: RunDrills) -> None:
    ran = run_drills(PeakLoad(), options=Options(rate=900.0, seconds=30.0))
    assert ran.record.exit_code == ExitCode.BROKEN
    assert ran.verdict("throughput").outcome is Outcome.BROKEN
    assert ran.verdict("latency-p95").outcome is Outcome.KEPT


def test_without_a_load_there_is_nothing_to_wait_for_and_nothing_to_judge(make_context: Any, tmp_path: Path) -> None:
    context = make_context("peak-load")
    with pytest.raises(StepFailed, match="there is no load"):
        PeakLoad().recover(context)
    with pytest.raises(StepFailed, match="there are no samples"):
        PeakLoad().judge(Case({"options": asdict(SHORT)}, None, None))
