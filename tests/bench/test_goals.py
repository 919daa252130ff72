from __future__ import annotations

import math

import pytest

from tests.bench.figures import Results, Round, Row
from tests.bench.goals import GROUPS, OURS, PEERS, Goal, goals, judge


def a_round(rps: float, *, cpu_us: float = 200.0, p99_ms: float = 9.0) -> Round:
    return Round(
        rps=rps, p50_ms=4.0, p95_ms=6.0, p99_ms=p99_ms, cpu_us=cpu_us, pss_mb=170.0, errors=0, backing_cores=0.1,
        others_cores=0.05, tries=1,
    )  # fmt: skip


def results(**rps: tuple[float, ...]) -> Results:
    found = Results()
    for name, rounds in rps.items():
        key = OURS if name == "ours" else f"resnet/lent/{name}"
        found.rows[key] = Row(key, name, [a_round(value) for value in rounds])
    return found


def goal(name: str, *peers: str) -> Goal:
    return next(item for item in goals(peers) if item.id == name)


def test_the_median_of_the_rounds_is_judged_against_the_best_peer() -> None:
    found = judge(
        goal("rps-best-peer", "kserve", "litserve"),
        results(ours=(8000, 1, 9000), kserve=(4000, 3900, 5), litserve=(2, 1200, 1300)),
    )
    assert found.measured == 8000 / 3900
    assert found.reached


def test_a_ratio_just_below_its_bound_is_missed() -> None:
    found = judge(goal("rps-best-peer", "kserve"), results(ours=(7999,), kserve=(4000,)))
    assert not found.reached


def test_a_row_that_failed_is_a_miss_with_its_reason() -> None:
    measured = results(ours=(8000,))
    measured.rows["resnet/lent/kserve"] = Row("resnet/lent/kserve", "kserve", failed="port taken")
    found = judge(goal("rps-best-peer", "kserve"), measured)
    assert (found.measured, found.reached) == (None, False)
    assert "port taken" in found.why


def test_a_peer_without_an_environment_fails_the_goals_that_compare_and_no_other() -> None:
    measured = results(ours=(8000,), kserve=(10,))
    found = judge(goal("rps-best-peer", "kserve"), measured, absent=["mlflow"])
    assert not found.reached
    assert "mlflow" in found.why
    assert judge(goal("memory", "kserve"), measured, absent=["mlflow"]).reached


def test_no_peer_at_all_is_no_win() -> None:
    assert not judge(goal("rps-best-peer"), results(ours=(8000,))).reached


@pytest.mark.parametrize("item", goals(PEERS), ids=lambda item: str(item.id))
def test_without_data_every_goal_is_missed(item: Goal) -> None:
    found = judge(item, Results())
    assert not found.reached
    assert found.why


def test_what_a_saturated_generator_measured_is_neither_reached_nor_missed() -> None:
    measured = Results(
        figures={"overload hung": 0.0, "open 1000 p99 ms": 3.0}, doubts={"overload": "the generator was saturated"}
    )
    found = judge(goal("overload-hung"), measured)
    assert (found.word, found.measured, found.why) == ("INCONCLUSIVE", None, "the generator was saturated")
    assert not found.reached
    measured.figures["overload hung"] = 1.0
    assert judge(goal("overload-hung"), measured).word == "MISSED"
    assert judge(goal("openloop-p99"), measured).word == "REACHED"
    assert judge(goal("openloop-p95"), measured).word == "MISSED"


def test_features_are_judged_by_what_they_add() -> None:
    measured = results()
    measured.rows[OURS] = Row(OURS, "", [a_round(1, cpu_us=219)])
    measured.rows["resnet/bare/hot"] = Row("", "", [a_round(1, cpu_us=200)])
    found = judge(goal("features"), measured)
    assert found.measured == pytest.approx(0.095)
    assert found.reached


def test_the_best_variant_counts_and_one_that_could_not_run_does_not() -> None:
    measured = results(ours=(8000,), kserve=(4000,))
    measured.rows["resnet/ours/auto"] = Row("", "", [a_round(8700)])
    measured.rows["resnet/ours/int8"] = Row("", "", [a_round(9000)])
    found = judge(goal("rps-variant", "kserve"), measured)
    assert found.measured == 2.25


def test_nan_and_infinity_reach_nothing() -> None:
    for item in goals(PEERS):
        assert not item.holds(math.nan)
        assert not item.holds(math.inf)
        assert not item.holds(-math.inf)


def test_every_goal_has_its_own_name_a_known_group_and_something_to_measure() -> None:
    found = goals(PEERS)
    assert len({item.id for item in found}) == len(found)
    assert {item.group for item in found} == set(GROUPS)
    assert all(item.rows or item.experiments for item in found)
