from __future__ import annotations

from sre.judges.canary.rules import Kind, MetricRule


def test_a_rollback_proves_the_margin_unless_it_says_otherwise() -> None:
    assert MetricRule(name="errors", kind=Kind.RATIO, margin=0.5).rollback_margin == 0.5
    assert MetricRule(name="errors", kind=Kind.RATIO, margin=0.5, proven=0.0).rollback_margin == 0.0
