from __future__ import annotations

import math
from typing import Any

import pytest

from sre.judges.loss import content_loss, data_loss
from sre.promises import promise
from sre.verdict import Outcome, Verdict

SAME = {"recorded": "3f800000", "repeated": "3f800000", "why": ""}


def table(**changes: int) -> dict[str, int]:
    return {"before": 100, "after": 110, "restored": 105, "lost": 0, "invented": 0} | changes


def judge(
    tables: dict[str, dict[str, int]] | None = None,
    objects: dict[str, Any] | None = None,
    prediction: dict[str, Any] | None = None,
) -> Verdict:
    return content_loss(
        promise("restore-content"),
        {"predictions.public.predictions": table()} if tables is None else tables,
        {"before": 20, "lost": [], "altered": []} | (objects or {}),
        SAME | (prediction or {}),
    )


def test_a_restore_without_a_difference_keeps_the_promise() -> None:
    verdict = judge()
    assert verdict.outcome is Outcome.KEPT
    assert verdict.measured == 0
    assert verdict.n == 120


@pytest.mark.parametrize(
    ("sabotage", "differences", "said"),
    [
        ({"tables": {"t": table(lost=3)}}, 3, "t: 3 rows lost"),
        ({"tables": {"t": table(invented=1)}}, 1, "t: 1 rows invented"),
        ({"objects": {"lost": ["ml-datasets/a.png"]}}, 1, "ml-datasets/a.png lost"),
        ({"objects": {"altered": ["ml-models-production/m/1/model.onnx"]}}, 1, "model.onnx altered"),
        ({"prediction": {"repeated": "3f800001"}}, 1, "other bits"),
        ({"prediction": {"repeated": None, "why": "the restored replica answered 503"}}, 1, "answered 503"),
        ({"prediction": {"recorded": None, "repeated": None, "why": "not in the restored log"}}, 1, "not in the restored log"),
    ],
)
def test_any_difference_breaks_the_promise(sabotage: dict[str, Any], differences: int, said: str) -> None:
    verdict = judge(**sabotage)
    assert verdict.outcome is Outcome.BROKEN
    assert verdict.measured == differences
    assert said in verdict.why


@pytest.mark.parametrize("nothing", [{"tables": {}}, {"tables": {"t": table(before=0)}}, {"objects": {"before": 0}}])
def test_nothing_to_compare_is_no_pass(nothing: dict[str, Any]) -> None:
    assert judge(**nothing).outcome is Outcome.INCONCLUSIVE


def test_many_differences_are_counted_and_the_first_named() -> None:
    verdict = judge(objects={"lost": [f"ml-datasets/{number}.png" for number in range(9)]})
    assert verdict.measured == 9
    assert verdict.why.endswith("and 6 more")


def test_data_loss_is_the_age_of_the_newest_restored_row() -> None:
    verdict = data_loss(promise("data-loss"), 1000.0, 940.0)
    assert (verdict.outcome, verdict.measured) == (Outcome.KEPT, 60.0)


def test_a_day_of_lost_data_breaks_the_promise() -> None:
    assert data_loss(promise("data-loss"), 86_400.0, 0.0).outcome is Outcome.BROKEN


def test_no_restored_row_at_all_breaks_the_promise() -> None:
    verdict = data_loss(promise("data-loss"), 1000.0, None)
    assert (verdict.outcome, verdict.measured) == (Outcome.BROKEN, math.inf)
