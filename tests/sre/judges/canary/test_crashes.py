from __future__ import annotations

import pytest

from sre.judges.canary.crashes import CrashCount
from sre.judges.canary.observation import Crashes
from sre.judges.canary.rules import Kind, MetricRule, StageRule


def test_crashes_are_counted_over_all_stages_against_the_limit() -> None:
    metric = CrashCount(MetricRule(name="crashes", kind=Kind.CRASHES, limit=2))
    assert metric.judged().standing.canary is None
    for _ in range(2):
        metric.begin(StageRule(weight=0.1, share=0.5, at_least_s=0.0, at_most_s=1.0))
        assert metric.observe(Crashes(1, 3)) is None
    assert metric.judged().breach is None
    metric.observe(Crashes(1, 0))
    judged = metric.judged()
    assert judged.breach == (
        "crashes: the canary's processes ended 3 times, 2 allowed; the control's 6 times; that is a bound, not a test"
    )
    assert (judged.standing.canary, judged.standing.control, judged.compared) == (3.0, 6.0, False)


def test_a_bound_gates_no_promotion_by_evidence() -> None:
    assert CrashCount(MetricRule(name="crashes", kind=Kind.CRASHES)).judged().standing.log_e_fine is None


@pytest.mark.parametrize("seen", [Crashes(-1, 0), Crashes(0, -1)])
def test_fewer_than_none_are_not_counted(seen: Crashes) -> None:
    metric = CrashCount(MetricRule(name="crashes", kind=Kind.CRASHES))
    assert metric.observe(seen) == "fewer than no crashes were read"
    assert metric.judged().standing.n == 0
