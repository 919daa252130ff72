from __future__ import annotations

from sre.slo.state import row
from sre.verdict import Outcome
from tests.sre.slo.standings import make_standing, make_unknown

HOUR = 3600.0


def test_an_objective_is_kept_or_broken_in_the_window_and_its_budget_is_that_of_the_period() -> None:
    burning = row(make_standing(((239, 240, 0.02),)), HOUR)
    assert (burning.objective, burning.bound, burning.measured) == ("availability", ">= 99.9 %", "98.00 %")
    assert (burning.budget_left, burning.outcome, burning.why) == ("91.66 %", Outcome.BROKEN, "")
    over = row(make_standing(((10, 12, 0.2),)), HOUR)
    assert (over.measured, over.budget_left, over.outcome) == ("100.00 %", "-66.67 %", Outcome.KEPT)


def test_a_breach_is_never_rounded_away() -> None:
    assert row(make_standing(((239, 240, 0.00101),), an_hour=12_000_000), HOUR).measured == "99.89 %"


def test_what_may_be_chance_breaks_nothing() -> None:
    found = row(make_standing(((239, 240, 0.01),), an_hour=100), HOUR)
    assert (found.measured, found.outcome) == ("99.00 %", Outcome.INCONCLUSIVE)
    assert found.why == "1 of 100 events bad, which may be chance"


def test_without_events_and_without_data_nothing_is_kept() -> None:
    idle, unknown = row(make_standing(an_hour=0), HOUR), row(make_unknown(), HOUR)
    assert (idle.measured, idle.outcome, idle.why) == ("no data", Outcome.INCONCLUSIVE, "no event in the window")
    assert (unknown.measured, unknown.outcome, unknown.budget_left) == ("no data", Outcome.INCONCLUSIVE, "")
    assert unknown.why.startswith("nothing counts the events")
