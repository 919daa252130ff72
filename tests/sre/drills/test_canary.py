from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sre.canary import plan as plans
from sre.canary.plan import Plan
from sre.drills import canary
from sre.drills.base import Case, Context, Options
from sre.drills.canary import PROMOTED, ROLLED_BACK, CanaryDrill, told
from sre.drills.run import verify
from sre.drills.world import World
from sre.errors import CannotRun, ExitCode, FaultWithoutEffect, StepFailed
from sre.evidence import bundle
from sre.faults.model import Place
from sre.judges.canary.rules import Kind
from sre.judges.canary.soundness import check
from sre.readings import LoadPlan
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome, Verdict
from tests.contract.versions import register_copy
from tests.sre.canary.rolling import Stage, staged

from .conftest import RunDrills
from .silent import silent

MakeCase = Callable[..., Case]


class Good(CanaryDrill):
    name = "canary-good"
    summary = "a version as good as production is promoted"
    ends = PROMOTED

    def version(self, context: Context, models: Place) -> str:
        del context, models
        return "2"


class Bad(Good):
    name = "canary-slow"
    promises = ("canary", "canary-requests", "canary-rollback")
    ends = ROLLED_BACK


def noted(**changes: Any) -> dict[str, Any]:
    """What a drill has noted whose rollout was rolled back, 4 s after the look that decided."""
    return {
        "production": "1", "version": "2", "ended": ROLLED_BACK, "why": "worse", "serving": ["1"], "decided_at": 1000.0,
        "counted_from": 900.0, "cleared_at": 1004.0, "watched_until": 1010.0, "canary_failed": 0.0, **changes,
    }  # fmt: skip


PROMOTED_FACTS = noted(ended=PROMOTED, serving=["2"], decided_at=None)


def judged(drill: CanaryDrill, case: Case, facts: dict[str, Any]) -> dict[str, Verdict]:
    judgement = drill.judge(replace(case, facts={**case.facts, **facts}))
    return {verdict.promise: verdict for verdict in judgement.verdicts}


def outcomes(drill: CanaryDrill, case: Case, facts: dict[str, Any]) -> dict[str, Outcome]:
    return {name: verdict.outcome for name, verdict in judged(drill, case, facts).items()}


KEPT, BROKEN, INCONCLUSIVE = Outcome.KEPT, Outcome.BROKEN, Outcome.INCONCLUSIVE


def test_the_rollout_is_begun_by_the_plan_of_the_drill(tmp_path: Path) -> None:
    class Other(Good):
        plan_file = tmp_path / "other.yaml"

    assert Good().command("7")[1:6] == ["canary", "run", "7", "--plan", str(canary.PLAN)]
    assert Other().command("7")[4:6] == ["--plan", str(tmp_path / "other.yaml")]


def test_a_rollout_that_ended_as_it_had_to_is_kept(make_case: MakeCase) -> None:
    assert outcomes(Good(), make_case(), PROMOTED_FACTS) == {"canary": KEPT, "canary-requests": KEPT}
    verdicts = judged(Bad(), make_case(), noted())
    assert {name: verdict.outcome for name, verdict in verdicts.items()} == dict.fromkeys(Bad.promises, KEPT)
    assert verdicts["canary-rollback"].measured == 4.0


@pytest.mark.parametrize(
    ("drill", "facts", "outcome"),
    [
        (Bad(), PROMOTED_FACTS, BROKEN),
        (Good(), noted(), BROKEN),
        (Bad(), noted(serving=["2"]), BROKEN),
        (Bad(), noted(serving=["1", "2"]), BROKEN),
        (Good(), {**PROMOTED_FACTS, "serving": ["1"]}, BROKEN),
        (Bad(), noted(serving=[]), INCONCLUSIVE),
        (Good(), noted(ended="inconclusive", decided_at=None), INCONCLUSIVE),
        (Bad(), noted(ended="inconclusive", decided_at=None), INCONCLUSIVE),
        (Bad(), noted(ended="error", decided_at=None), INCONCLUSIVE),
    ],
    ids=["promoted", "rolled back", "left", "left on one", "not taken over", "unknown", "good held", "bad held", "failed"],
)
def test_sabotage_how_it_ended(make_case: MakeCase, drill: CanaryDrill, facts: dict[str, Any], outcome: Outcome) -> None:
    assert outcomes(drill, make_case(), facts)["canary"] is outcome


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (noted(cleared_at=1031.9), KEPT),
        (noted(cleared_at=1032.0, watched_until=1040.0), BROKEN),
        (noted(cleared_at=1060.0, watched_until=1061.0), BROKEN),
        (noted(cleared_at=None, watched_until=1900.0), BROKEN),
        (noted(cleared_at=None, watched_until=1010.0), INCONCLUSIVE),
        (noted(decided_at=None), INCONCLUSIVE),
        (noted(cleared_at=999.5), KEPT),
    ],
    ids=["just in time", "just too late", "late", "never", "nobody looked longer", "nobody knows since when", "at once"],
)
def test_sabotage_when_it_had_no_traffic_any_more(make_case: MakeCase, facts: dict[str, Any], outcome: Outcome) -> None:
    assert outcomes(Bad(), make_case(), facts)["canary-rollback"] is outcome


def test_a_good_version_is_not_held_to_the_time_of_a_rollback(make_case: MakeCase) -> None:
    assert "canary-rollback" not in judged(Good(), make_case(), noted())


def test_a_bad_version_that_was_promoted_was_not_rolled_back_in_time_either(make_case: MakeCase) -> None:
    assert outcomes(Bad(), make_case(), PROMOTED_FACTS) == {"canary": BROKEN, "canary-requests": KEPT}


def test_requests_that_others_than_the_canary_lost_break_it(make_case: MakeCase) -> None:
    case = make_case(failing=0.02)
    _, samples = case.load()
    failed = float((samples["status"] == 500).sum())
    assert failed > 0
    assert outcomes(Bad(), case, noted(canary_failed=failed))["canary-requests"] is KEPT
    assert outcomes(Bad(), case, noted(canary_failed=failed - 1))["canary-requests"] is BROKEN
    assert outcomes(Bad(), case, noted(canary_failed=None))["canary-requests"] is INCONCLUSIVE


def test_sources_that_disagree_take_the_ground_from_what_was_kept(make_case: MakeCase) -> None:
    facts = noted()
    assert set(outcomes(Bad(), make_case(counted=0.5), facts).values()) == {INCONCLUSIVE}


def test_a_rollout_whose_end_nobody_knows_has_no_verdict(make_case: MakeCase) -> None:
    assert judged(Bad(), make_case(), {"production": "1", "version": "2"}) == {}


def test_users_come_in_numbers_that_tell_a_tenth_of_them_apart() -> None:
    plan = Good().plan(Options())
    assert isinstance(plan, LoadPlan)
    assert plan.rate * 0.1 * 60 > 1000
    assert plan.seconds > canary.STEADY_S + canary.SHIFTED_WITHIN_S + canary.ENDED_WITHIN_S
    assert Good().plan(Options(rate=20.0, seconds=30.0)) == LoadPlan(20.0, 30.0, 1)
    assert Good().steady_seconds(Options()) == canary.STEADY_S


def test_the_plan_is_the_one_in_use_but_for_its_length_its_consents_and_how_errors_come() -> None:
    drilled, used = plans.load(canary.PLAN), plans.load(canary.PLAN.with_name("canary.yaml"))
    assert (drilled.errors, drilled.requests) == (used.errors, used.requests)
    in_drills, in_use = ({rule.name: rule for rule in plan.rules().metrics} for plan in (drilled, used))
    errors, as_used = in_drills.pop("errors"), in_use.pop("errors")
    assert in_drills == in_use
    assert (errors.margin, errors.objective) == (as_used.margin, as_used.objective)
    assert [stage.weight for stage in drilled.stages] == [stage.weight for stage in used.stages] == [0.1, 0.5, 1.0]
    assert not any(stage.approval for stage in drilled.stages)
    assert drilled.slo is None
    assert longest(drilled) <= canary.ENDED_WITHIN_S
    check(drilled.rules())
    assert {rule.kind for rule in drilled.rules().metrics} == set(Kind) - {Kind.BOUNDED}


def longest(plan: Plan) -> float:
    """Seconds that a rollout may last: every stage to its deadline."""
    return sum(stage.at_most for stage in plan.stages)


def test_a_target_that_keeps_its_models_elsewhere_cannot_run_it(run_drills: RunDrills) -> None:
    ran = run_drills(Good(), options=Options(seconds=60.0))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert (
        "target memory keeps its models elsewhere; the canary drills need target local or kubernetes" in ran.step("inject").detail
    )
    assert ran.pending() == 0
    assert verify(ran.folder, ran.key) == []


def test_a_canary_that_is_there_already_is_left_alone(run_drills: RunDrills, make_context: Callable[..., Context]) -> None:
    context = make_context("canary-good")
    assert Good().preflight(context).endswith("there is no canary")
    context.target.router.begin("2")
    with pytest.raises(CannotRun, match="version 2 is a canary already; end its rollout first with `sre canary abort`"):
        Good().preflight(context)
    assert context.target.router.split() is not None


def under_way(drill: CanaryDrill, context: Context, script: str) -> CanaryDrill:
    """The drill with a rollout that is a script."""
    context.folder.mkdir(parents=True)
    context.load = context.observers.start_load(LoadPlan(50.0, 30.0, 1), context.folder)
    drill._process = subprocess.Popen(["sh", "-c", script])
    return drill


def test_when_its_traffic_ended_is_seen_even_if_the_rollout_ends_at_once(make_context: Callable[..., Context]) -> None:
    context = make_context("canary-slow")
    drill = under_way(Bad(), context, "exit 1")
    drill._process.wait(10)
    now = context.target.clock.wall()
    drill._watch(context)
    assert context.facts["cleared_at"] == now
    assert context.facts["watched_until"] >= now


def test_traffic_that_stays_is_seen_too(make_context: Callable[..., Context]) -> None:
    context = make_context("canary-slow")
    drill = under_way(Bad(), context, "exit 1")
    drill._process.wait(10)
    context.target.router.begin("2")
    context.target.router.shift(0.1, 0.1)
    drill._watch(context)
    assert context.facts["cleared_at"] is None


def test_only_the_last_time_without_traffic_counts(make_context: Callable[..., Context]) -> None:
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        if len(lines) == 5:
            context.target.router.begin("2")
            context.target.router.shift(0.5, 0.5)
        if len(lines) == 8:
            context.target.router.end()
        if len(lines) == 12:
            drill._process.kill()
            drill._process.wait(10)

    context = make_context("canary-slow", hear=hear)
    drill = under_way(Bad(), context, "exec sleep 1000")
    began = context.target.clock.wall()
    drill._watch(context)
    assert "no canary" in lines[0]
    assert "canary 50%, control 50%" in lines[5]
    # What a canary takes to begin, and four looks.
    assert context.facts["cleared_at"] > began + 4.0
    assert context.facts["cleared_at"] < context.facts["watched_until"]


def test_a_rollout_that_does_not_end_is_given_up_and_ended(make_context: Callable[..., Context]) -> None:
    context = make_context("canary-slow")
    drill = under_way(Bad(), context, "exec sleep 1000")
    with pytest.raises(StepFailed, match="the load ended before the drill did"):
        drill.recover(context)
    assert drill._process.returncode == -15


def test_a_rollout_that_ends_before_it_begins_says_why(make_context: Callable[..., Context]) -> None:
    context = make_context("canary-slow")
    drill = under_way(Bad(), context, "exit 4")
    drill._process.wait(10)
    (context.folder / "rollout.log").write_text("the plan is wrong", encoding="utf-8")
    with pytest.raises(StepFailed, match="the rollout ended before it had begun; its last words: the plan is wrong"):
        drill._shifted(context)


def test_what_a_rollout_recorded_is_told(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        done = stage.begin()
        facts = told(stage.place.root)
    assert facts["ended"] == PROMOTED
    assert facts["why"] == "version 2 is in production in place of version 1"
    assert facts["record"] == done.folder.name
    assert facts["decided_at"] is None
    assert facts["looks"] > 0
    assert done.record.started < facts["counted_from"] < done.record.ended


def test_a_rollback_is_told_with_the_look_that_decided(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.prometheus.service.failing["canary"] = 0.25
        done = stage.begin()
        facts = told(stage.place.root)
    assert facts["ended"] == ROLLED_BACK
    assert facts["counted_from"] < facts["decided_at"] <= done.record.ended
    assert "errors" in facts["why"]


def test_a_rollout_that_never_began_has_no_moment_to_count_from(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.begin("9")
        facts = told(stage.place.root)
    assert (facts["ended"], facts["counted_from"], facts["decided_at"], facts["looks"]) == ("error", None, None, 0)


def test_a_folder_without_a_record_or_with_two_is_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"the rollout left 0 closed records, not one; see rollout\.log"):
        told(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / bundle.RUN).touch()
    with pytest.raises(StepFailed, match="left 2 closed records"):
        told(tmp_path)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Stage, Path]:
    """A rollout that is over, and its folder."""
    with staged(tmp_path) as stage:
        return stage, stage.begin("9").folder


def test_sabotage_a_record_that_was_altered_is_not_believed(recorded: tuple[Stage, Path]) -> None:
    stage, folder = recorded
    path = folder / bundle.JOURNAL
    path.write_text(path.read_text(encoding="utf-8").replace('"outcome": "error"', '"outcome": "kept"'), encoding="utf-8")
    with pytest.raises(StepFailed, match="the rollout's record cannot be read: "):
        told(stage.place.root)


def test_sabotage_a_record_without_its_end(recorded: tuple[Stage, Path]) -> None:
    stage, folder = recorded
    path = folder / bundle.JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    decision = next(number for number, line in enumerate(lines) if json.loads(line)["event"] == "decision")
    path.write_text("".join(lines[:decision]), encoding="utf-8")
    with pytest.raises(StepFailed, match=r"holds no decision; see rollout\.log"):
        told(stage.place.root)


def test_a_record_of_something_else_is_no_rollout(run_drills: RunDrills, tmp_path: Path) -> None:
    ran = run_drills(Good(), options=Options(seconds=60.0))
    with pytest.raises(StepFailed, match="is no rollout of a canary"):
        told(ran.folder.parent)


def test_a_canary_that_serves_nobody_is_a_fault_without_effect(make_context: Callable[..., Context], tmp_path: Path) -> None:
    context = make_context("canary-good")
    context.target = silent(tmp_path)
    with pytest.raises(FaultWithoutEffect, match=r"nobody was served by the canary: .*last seen: 0 requests"):
        Good().prove_injected(context)


@pytest.mark.parametrize("counted_from", [None, 1_767_268_800.0])
def test_failures_that_prometheus_cannot_tell_are_not_counted(
    make_context: Callable[..., Context], tmp_path: Path, counted_from: float | None
) -> None:
    context = make_context("canary-good")
    context.target = silent(tmp_path)
    context.note(counted_from=counted_from)
    assert Good()._failed_by_canary(context) is None


@pytest.mark.local
def test_what_the_canary_answered_wrong_is_counted_from_its_first_request(
    system: LocalTarget, make_context: Callable[..., Context]
) -> None:
    context = make_context("canary-good")
    context.target = system
    try:
        system.router.begin(register_copy(system.layout))
        context.note(counted_from=system.clock.wall())
        system.router.shift(1.0, 0.0)
        assert World(system.endpoints, 2.0, 5.0).user_probe()[0] == 200
        assert Good()._failed_by_canary(context) == 0.0
        assert "the canary has answered 1 requests" in Good().prove_injected(context)
    finally:
        system.router.end()
