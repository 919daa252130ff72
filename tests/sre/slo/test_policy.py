from __future__ import annotations

from pathlib import Path

import pytest

from sre import documents
from sre.errors import ExitCode, UsageError
from sre.slo.overrides import Override, record
from sre.slo.policy import POLICY, Decision, Policy, answer, load, rule
from sre.slo.standing import Standing, Unknown
from sre.slo.windows import Severity
from tests.sre.slo.standings import AT, make_standing, make_unknown

SHIPPED = load()
SPENT = ((10, 12, 0.2),)  # two hours of ten days: 167 % of the budget so far
LITTLE = ((10, 11, 0.2),)
PAGING = ((239, 240, 0.02),)
TICKETING = ((210, 240, 0.0035),)


def decided(*standings: Standing | Unknown, home: Path) -> Decision:
    return answer(standings, SHIPPED, home, AT).decision


def test_the_shipped_policy_freezes_without_budget_and_slows_with_little() -> None:
    assert (SHIPPED.freeze.budget_left, SHIPPED.freeze.burning) == (0, [Severity.PAGE])
    assert (SHIPPED.slow.budget_left, SHIPPED.slow.burning) == (0.25, [Severity.TICKET])
    assert SHIPPED.longest_override == 72 * 3600


@pytest.mark.parametrize(
    ("standing", "decision", "reason"),
    [
        (make_standing(), Decision.SHIP, "100.00 % of the budget is left"),
        (make_standing(SPENT), Decision.FREEZE, "-66.67 % of the budget is left"),
        (make_standing(LITTLE), Decision.SLOW, "16.66 % of the budget is left"),
        (make_standing(PAGING), Decision.FREEZE, "page: burn 20.00 over 1 h and 20.00 over 5 min, limit 14.4"),
        (make_standing(TICKETING), Decision.SLOW, "ticket: burn 3.50 over 24 h"),
        (make_standing(an_hour=0), Decision.UNKNOWN, "no event in the whole period"),
        (make_standing(((10, 11, 1.0),), an_hour=4), Decision.UNKNOWN, "4 bad events of 960, too few to say so"),
        (make_unknown(), Decision.UNKNOWN, "nothing counts the events"),
    ],
)
def test_budget_and_burn_decide(standing: Standing | Unknown, decision: Decision, reason: str) -> None:
    found = rule(standing, SHIPPED)
    assert found.decision is decision
    assert reason in "; ".join(found.reasons)
    assert found.objective == f"api/{standing.objective.name}"


def test_a_large_incident_is_flagged_and_a_small_one_is_not() -> None:
    assert "cost 55.56 % of the budget and wants a postmortem" in "; ".join(rule(make_standing(SPENT), SHIPPED).reasons)
    small = make_standing(((10, 11, 0.02),))
    assert len(small.incidents) == 1
    assert "postmortem" not in "; ".join(rule(small, SHIPPED).reasons)


def test_the_strictest_objective_decides_and_what_is_unknown_is_no_budget(tmp_path: Path) -> None:
    fine, slow, spent, unknown = make_standing(), make_standing(LITTLE), make_standing(SPENT), make_unknown()
    assert decided(fine, fine, home=tmp_path) is Decision.SHIP
    assert decided(fine, slow, home=tmp_path) is Decision.SLOW
    assert decided(fine, slow, unknown, home=tmp_path) is Decision.UNKNOWN
    assert decided(unknown, spent, fine, home=tmp_path) is Decision.FREEZE
    assert decided(home=tmp_path) is Decision.UNKNOWN


@pytest.mark.parametrize(
    ("standing", "starts", "code"),
    [
        (make_standing(), True, ExitCode.KEPT), (make_standing(LITTLE), True, ExitCode.KEPT),
        (make_standing(SPENT), False, ExitCode.BROKEN), (make_unknown(), False, ExitCode.INCONCLUSIVE),
    ],
)  # fmt: skip
def test_a_rollout_starts_only_with_budget_that_is_known(
    tmp_path: Path, standing: Standing | Unknown, code: ExitCode, *, starts: bool
) -> None:
    found = answer([standing], SHIPPED, tmp_path, AT)
    assert (found.starts, found.decision.exit_code) == (starts, code)
    assert found.reasons[0].startswith(f"api/{standing.objective.name}: ")


def test_no_objective_is_no_budget(tmp_path: Path) -> None:
    found = answer([], SHIPPED, tmp_path, AT)
    assert not found.starts
    assert found.reasons == ("there is no objective, and so no budget that anybody knows of",)


def override(home: Path, service: str = "api", until: float = AT + 60) -> None:
    made = Override(service=service, who="Ada", why="it mends the outage", made=AT - 60, until=until)
    record(home, made, longest=SHIPPED.longest_override)


def test_a_person_can_lift_a_freeze_and_is_named(tmp_path: Path) -> None:
    override(tmp_path)
    found = answer([make_standing(SPENT)], SHIPPED, tmp_path, AT)
    assert (found.decision, found.starts) == (Decision.SLOW, True)
    assert "Ada lets it ship until 2026-06-08T00:01:00.000Z: it mends the outage" in found.reasons[0]
    assert found.rulings[0].override is not None
    assert answer([make_standing()], SHIPPED, tmp_path, AT).decision is Decision.SHIP


def test_an_override_is_for_its_service_its_time_and_for_what_is_known(tmp_path: Path) -> None:
    override(tmp_path, service="training")
    override(tmp_path, until=AT - 30)
    assert decided(make_standing(SPENT), home=tmp_path) is Decision.FREEZE
    override(tmp_path)
    assert decided(make_unknown(), home=tmp_path) is Decision.UNKNOWN


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sre.slo-policy/1", "sre.slo-policy/2", "slo-policy.yaml:2: schema is 'sre.slo-policy/2'"),
        ("budget_left: 25%", "budget_left: 25", "slow.budget_left is 25: write a percentage, as 25%"),
        ("budget_left: 25%", "budget_left: 125%", "is not between 0 and 1"),
        ("budget_left: 0%", "budget_left: 50%", "slow.budget_left is below freeze.budget_left"),
        ("[page]", "[pager]", "freeze.burning.0 is 'pager'"),
        ("72h", "72", "longest_override is 72: write a duration with its unit, as 72h"),
        ("72h", "72x", "duration '72x' is not understood"),
        ("longest_override", "longest", "longest"),
    ],
)
def test_a_mistyped_policy_is_refused(old: str, new: str, said: str) -> None:
    text = POLICY.read_text()
    assert old in text
    with pytest.raises(UsageError) as refused:
        documents.parse(text.replace(old, new, 1), POLICY.name, Policy)
    assert said in str(refused.value)
