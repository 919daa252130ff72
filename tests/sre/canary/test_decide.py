from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from sre.canary.decide import judge
from sre.errors import UsageError
from sre.judges.canary.decision import Action
from tests.sre.canary.histories import START, Fleet, make_plan
from tests.sre.canary.liar import Liar, answer

PLAN = make_plan()
SCRAPES = 60
AT = START + SCRAPES


@pytest.fixture
def liar() -> Iterator[Liar]:
    one = Liar(Fleet(PLAN), None)
    yield one
    one.close()


def traffic(liar: Liar, *, bad: int) -> None:
    """So many bad requests of the canary in 100, and one of the control."""
    chance = random.Random(1)
    for second in range(1, SCRAPES + 1):
        for process, share in ((liar.fleet.canary, bad), (liar.fleet.control, 1)):
            failed = sum(chance.random() < share / 100 for _ in range(100))
            process.answer(failed, status="500")
            for label in ("cat", "dog"):
                process.answer((100 - failed) // 2, label=label)
                process.answer((100 - failed) // 8, seconds=5.0, label=label)
        liar.fleet.scrape(START + second - 0.3)


def test_a_worse_canary_is_rolled_back_and_the_numbers_are_those_of_the_span(liar: Liar) -> None:
    traffic(liar, bad=30)
    standing = judge(PLAN, liar.url, at=AT, since=START)
    assert standing.action is Action.ROLLBACK
    assert (standing.at, standing.stage_s) == (AT, SCRAPES)
    errors = standing.metrics[0]
    counted = sum(value for key, value in liar.fleet.canary.counts.items() if ("status", "500") in key)
    control = sum(value for key, value in liar.fleet.control.counts.items() if ("status", "500") in key)
    assert errors.n == counted + control
    assert errors.canary is not None
    assert math.isclose(errors.canary, 0.26, abs_tol=0.03)


def test_a_canary_as_good_as_its_control_is_not_rolled_back(liar: Liar) -> None:
    traffic(liar, bad=1)
    assert judge(PLAN, liar.url, at=AT, since=START).action is not Action.ROLLBACK


def test_half_of_the_span_is_judged_by_itself(liar: Liar) -> None:
    traffic(liar, bad=1)
    half = judge(PLAN, liar.url, at=AT, since=START + SCRAPES / 2)
    whole = judge(PLAN, liar.url, at=AT, since=START)
    assert half.stage_s == SCRAPES / 2
    assert 0 < half.metrics[0].n < whole.metrics[0].n


def test_without_data_it_holds_and_says_why(liar: Liar) -> None:
    traffic(liar, bad=1)
    liar.about, liar.lie = 'classes_total{job="s",track="canary"}', answer({}, status=503)
    standing = judge(PLAN, liar.url, at=AT, since=START)
    assert standing.action is Action.HOLD
    assert any("503" in reason for reason in standing.reasons)
    standing = judge(PLAN, "http://127.0.0.1:1", at=AT, since=START)
    assert standing.action is Action.HOLD
    assert any("no answer came" in reason for reason in standing.reasons)


@pytest.mark.parametrize(("since", "stage", "message"), [
    (AT, 0, "holds 0 scrapes"), (AT + 5, 0, "scrapes"), (AT - 1e5, 0, "between 1 and 10,000"),
    (START, 2, "no control"), (START, -1, "no control"),
])  # fmt: skip
def test_a_span_or_stage_that_cannot_be_judged_is_refused(since: float, stage: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        judge(PLAN, "http://127.0.0.1:1", at=AT, since=since, stage=stage)
