from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sre.errors import UsageError
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, Rules, StageRule
from sre.judges.canary.soundness import check

STAGE = StageRule(weight=0.1, share=0.5, at_least_s=10.0, at_most_s=3600.0)
ERRORS = MetricRule(name="errors", kind=Kind.RATIO)
GOOD = Rules(alpha=0.01, beta=0.05, sample_ratio_alpha=0.001, metrics=(ERRORS,), stages=(STAGE,))
METRIC: Callable[..., Rules] = lambda **fields: replace(GOOD, metrics=(replace(ERRORS, **fields),))  # noqa: E731
STAGES: Callable[..., Rules] = lambda **fields: replace(GOOD, stages=(replace(STAGE, **fields),))  # noqa: E731


def test_sound_rules_pass(make_rules: Callable[..., Rules]) -> None:
    check(GOOD)
    check(make_rules())
    check(make_rules(model=Model.BURSTY))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (replace(GOOD, alpha=0.0), "alpha is 0; an error rate lies strictly between 0 and 1"),
        (replace(GOOD, beta=1.0), "beta is 1"),
        (replace(GOOD, sample_ratio_alpha=float("nan")), "sample_ratio_alpha is nan"),
        (replace(GOOD, metrics=()), "no metric gates a promotion"),
        (METRIC(gates=False), "no metric gates a promotion"),
        (replace(GOOD, metrics=(MetricRule(name="crashes", kind=Kind.CRASHES),)), "no metric gates a promotion"),
        (replace(GOOD, metrics=(ERRORS, ERRORS)), "the name 'errors' stands 2 times"),
        (METRIC(name="requests"), "`requests` is taken"),
        (replace(GOOD, stages=()), "no stage with a control"),
        (replace(GOOD, stages=(replace(STAGE, weight=0.5), STAGE)), "weight 10% follows 50%"),
        (STAGES(weight=1.0, share=1.0), "a stage of weight 100% leaves no control"),
        (STAGES(at_least_s=3600.0), "at least 3600 s and at most 3600 s; the latter must be longer"),
        (METRIC(margin=-0.5), "errors: margins -0.5 and -0.5 are negative"),
        (METRIC(margin=0.0), "errors: no evidence shows that two rates are equal"),
        (METRIC(proven=2.0), "errors: a rollback proves 3x, beyond the margin of 2x"),
        (METRIC(kind=Kind.CLASSES, labels=("0",)), "errors: 1 labels make no mix"),
        (METRIC(negligible=1.5), "errors: negligible is 1.5"),
        (METRIC(kind=Kind.HISTOGRAM, negligible=0.1), "errors: negligible is 0.1"),
        (METRIC(objective=Objective(0.1, 0.5)), "errors: an objective is for ratios, without an edge"),
        (METRIC(kind=Kind.HISTOGRAM, objective=Objective(0.1)), "or for histograms, with one"),
        (METRIC(kind=Kind.BOUNDED, objective=Objective(0.1)), "an objective is for ratios"),
        (METRIC(objective=Objective(0.0)), "errors: the objective is at most 0"),
        (STAGES(weight=0.8, share=0.8), "at weight 80% the canary gets 80% of both; choose a weight of at most 50%"),
    ],
)
def test_each_contradiction_is_refused_with_its_remedy(rules: Rules, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        check(rules)
    assert said in str(refused.value)


def test_all_contradictions_are_told_at_once() -> None:
    bad: Any = replace(METRIC(margin=-1.0), alpha=2.0)
    with pytest.raises(UsageError, match=r"alpha is 2; .*errors: margins"):
        check(bad)


def test_unequal_arms_are_fine_for_what_comes_one_by_one() -> None:
    check(replace(METRIC(model=Model.INDEPENDENT), stages=(replace(STAGE, weight=0.8, share=0.8),)))
