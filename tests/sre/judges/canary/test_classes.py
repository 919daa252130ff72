from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sre.judges.canary.classes import ClassMix
from sre.judges.canary.observation import Classes, Events
from sre.judges.canary.rules import Kind, MetricRule, Model, StageRule

AT = math.log(20.0)
LABELS = tuple("0123456789")
STAGE = StageRule(weight=0.1, share=0.5, at_least_s=0.0, at_most_s=1.0)


def mix(labels: tuple[str, ...] = LABELS, **fields: Any) -> ClassMix:
    rule: dict[str, Any] = {
        "name": "classes",
        "kind": Kind.CLASSES,
        "model": Model.INDEPENDENT,
        "margin": 0.1,
        "labels": labels,
    } | fields
    made = ClassMix(MetricRule(**rule), beta=0.05)
    made.begin(STAGE)
    return made


def draw(random: np.random.Generator, n: int, shares: Any) -> tuple[int, ...]:
    return tuple(map(int, random.multinomial(n, shares)))


@pytest.mark.parametrize("model", Model)
@pytest.mark.parametrize("shift", [0.05, -0.05])
def test_five_points_of_one_class_are_found_within_five_thousand_predictions(model: Model, shift: float) -> None:
    # C11: a tenth becomes 15 % or 5 %, the other nine make room; 15 rollouts, looks of 100 predictions of the canary.
    changed = np.array([0.1 + shift, *([(0.9 - shift) / 9] * 9)])
    taken = []
    for seed in range(15):
        random, metric = np.random.default_rng(seed), mix(model=model)
        looks = 0
        while looks < 60 and metric.judged().standing.log_e_worse < AT:
            metric.observe(Classes(LABELS, draw(random, 100, changed), draw(random, 100, [0.1] * 10)))
            looks += 1
        taken.append(100 * looks)
    assert np.median(taken) <= 5000
    assert "class 0 is" in metric.judged().standing.why


def test_the_same_mix_is_fine_both_ways_and_a_shift_is_not() -> None:
    same, shifted = mix(margin=0.5), mix(margin=0.5)
    even = (400,) * 10
    same.observe(Classes(LABELS, even, even))
    shifted.observe(Classes(LABELS, (200, *even[1:]), even))
    fine = [metric.judged().standing.log_e_fine for metric in (same, shifted)]
    assert fine[0] is not None
    assert fine[1] is not None
    assert fine[0] >= AT
    assert fine[1] < 0.0


def test_a_class_of_few_does_not_gate_and_one_always_does() -> None:
    metric = mix(margin=0.5)
    metric.observe(Classes(LABELS, (1, *(400,) * 9), (20, *(400,) * 9)))
    log_e = metric.judged().standing.log_e_fine
    assert log_e is not None
    assert log_e >= AT
    many = mix(labels=tuple(map(str, range(100))), margin=0.5)
    many.observe(Classes(tuple(map(str, range(100))), (4,) * 100, (4,) * 100))
    few = many.judged().standing.log_e_fine
    assert few is not None
    assert few < AT


def test_a_label_that_the_plan_does_not_know_is_a_doubt_for_good() -> None:
    metric = mix()
    metric.observe(Classes((*LABELS, "cat"), (10,) * 10 + (1,), (10,) * 10 + (0,)))
    metric.observe(Classes(LABELS, (10,) * 10, (10,) * 10))
    doubt = metric.judged().doubt
    assert doubt is not None
    assert doubt.startswith("classes: the canary predicts cat, which the plan does not know; labels are 0, 1")


def test_labels_come_in_any_order_and_may_be_absent() -> None:
    ordered, other = mix(), mix()
    ordered.observe(Classes(LABELS, (5, 7, *(0,) * 8), (6, 4, *(0,) * 8)))
    other.observe(Classes(("1", "0"), (7, 5), (4, 6)))
    assert ordered.judged() == other.judged()


def test_needs_tell_what_is_waited_for() -> None:
    metric = mix(margin=0.5)
    metric.observe(Classes(LABELS, (10,) * 10, (10,) * 10))
    assert metric.judged().needs.endswith("100 of the 200 predictions of the control that say which classes gate")
    metric.observe(Classes(LABELS, (10,) * 10, (10,) * 10))
    assert metric.judged().needs.endswith("class 0: 40 of about 210 events that show a margin of 1.5x")


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (Events(0, 0, 0, 0), "Events was read where predicted classes are expected"),
        (Classes(("0", "0"), (1, 1), (1, 1)), "need one count each"),
        (Classes(("0", "1"), (1,), (1, 1)), "need one count each"),
        (Classes(("0", "1"), (1, -1), (1, 1)), "a class's count is no number of predictions"),
    ],
)
def test_what_contradicts_itself_is_not_counted(observation: Any, said: str) -> None:
    metric = mix()
    before = metric.judged()
    problem = metric.observe(observation)
    assert problem is not None
    assert said in problem
    assert metric.judged() == before
