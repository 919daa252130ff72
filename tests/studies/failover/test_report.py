from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.studies.failover.journal import Result
from tests.studies.failover.report import conclusion, summary, text, times

MakeResult = Callable[..., Result]


def test_300_schedules_without_a_loss_are_enough_and_298_are_not(make_result: MakeResult) -> None:
    results = [make_result(seed) for seed in range(300)]
    shown, said = conclusion("strict", summary(results))
    assert (shown, said) == (True, "0 of 300 schedules lossy, at most 0.994 % with 95 % confidence")
    assert not conclusion("strict", summary(results[:298]))[0]
    assert not conclusion("strict", summary([]))[0]


@pytest.mark.parametrize("difference", ["lost", "invented", "doubled", "altered"])
def test_one_difference_in_one_schedule_is_told_with_its_seed(make_result: MakeResult, difference: str) -> None:
    results = [make_result(seed, **({difference: 1} if seed == 77 else {})) for seed in range(1000)]
    shown, said = conclusion("strict", summary(results))
    assert not shown
    assert said.endswith("seeds 77")


def test_schedules_that_show_nothing_are_set_aside_and_losses_never(make_result: MakeResult) -> None:
    results = [
        make_result(0),
        make_result(1, acked=1999),
        make_result(2, why="the fault did not bite"),
        make_result(3, acked=5, lost=1),
        make_result(4, lost=1, why="the cluster did not come back"),
    ]
    found = summary(results)
    assert (found.judged, found.lossy) == (3, (3, 4))
    assert found.set_aside == ("schedule 1: 1,999 of 2,000 acknowledged writes", "schedule 2: the fault did not bite")


@pytest.mark.parametrize(
    ("lossy", "of", "seen"), [(1, 20, True), (1, 21, False), (0, 20, False), (0, 0, False), (14, 300, False)]
)
def test_a_study_that_sees_no_loss_where_there_must_be_one_is_blind(
    make_result: MakeResult, lossy: int, of: int, *, seen: bool
) -> None:
    found = summary([make_result(seed, lost=int(seed < lossy)) for seed in range(of)])
    shown, said = conclusion("async", found)
    assert shown is seen
    assert ("blind" in said) is not seen


def test_times_of_59_kills() -> None:
    found = times([float(value) for value in range(1, 60)])
    assert (found.n, found.median, found.longest) == (59, 30.0, 59.0)
    assert found.interval == (22.0, 38.0)


def test_a_recovery_that_was_not_seen_is_the_longest() -> None:
    found = times([5.0, None, 6.0, 7.0, 8.0, 9.0, 10.0])
    assert (found.longest, found.median) == (math.inf, 8.0)
    assert found.interval is not None
    assert found.interval[1] == math.inf
    assert times([5.0, None]).median == math.inf
    assert times([5.0] * 5).interval is None
    assert times([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).interval == (1.0, 6.0)
    assert math.isnan(times([]).median)


def test_only_killed_primaries_make_the_times_of_killed_primaries(make_result: MakeResult) -> None:
    results = [make_result(0, first_write=9.0), make_result(1, first_write=20.0, primary_killed=False)]
    results.append(make_result(2, first_write=50.0, why="the fault did not bite"))
    assert summary(results).first_write.longest == 9.0


def test_the_report_tells_it_all(make_result: MakeResult) -> None:
    told = text("strict", [*(make_result(seed) for seed in range(30)), make_result(30, kinds=("sigstop", "sigkill"), lost=2)])
    assert "1 of 31 schedules lossy" in told
    assert "sigkill               31      1      2      217                8.2 s     8.3 s" in told
    assert "first write after a primary was killed: median 8.2 s (95 % 8.1 s to 8.3 s), longest 8.3 s, 31 times" in told
    assert "network-cut            0      0      0        0              no data   no data" in told
    assert "set aside" not in told
    assert text("strict", [make_result(0, acked=1)]).endswith("set aside: schedule 0: 1 of 2,000 acknowledged writes\n")
