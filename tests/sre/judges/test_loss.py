from __future__ import annotations

import math
from typing import Any

import pytest

from sre.judges.history import Attempt, Fate, Key, Row
from sre.judges.loss import Reach, content_loss, data_loss, failed_points, reach, unrecorded
from sre.promises import promise
from sre.verdict import Outcome, Verdict

SAME = {"recorded": "3f800000", "repeated": "3f800000", "why": ""}


def table(expected: tuple[int, str] | None = (100, "a"), restored: tuple[int, str] | None = (100, "a")) -> dict[str, Any]:
    sides = {"expected": expected, "restored": restored}
    return {name: None if side is None else {"rows": side[0], "checksum": side[1]} for name, side in sides.items()}


def judge(
    tables: dict[str, dict[str, Any]] | None = None,
    objects: dict[str, Any] | None = None,
    prediction: dict[str, Any] | None = None,
) -> Verdict:
    return content_loss(
        promise("restore-content"),
        {"predictions.public.predictions": table()} if tables is None else tables,
        {"expected": 20, "lost": [], "altered": [], "invented": []} | (objects or {}),
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
        ({"tables": {"t": table(restored=(97, "b"))}}, 3, "t: 3 of 100 rows lost"),
        ({"tables": {"t": table(restored=(101, "b"))}}, 1, "t: 1 of 100 rows invented"),
        ({"tables": {"t": table(restored=(100, "b"))}}, 1, "t: 100 rows, of which some are altered"),
        ({"tables": {"t": table(restored=None)}}, 100, "t lost with 100 rows"),
        ({"tables": {"t": table(), "u": table(expected=None, restored=(0, "0"))}}, 1, "u invented with 0 rows"),
        ({"objects": {"lost": ["ml-datasets/a.png"]}}, 1, "ml-datasets/a.png lost"),
        ({"objects": {"altered": ["ml-models-production/m/1/model.onnx"]}}, 1, "model.onnx altered"),
        ({"objects": {"invented": ["ml-datasets/b.png"]}}, 1, "ml-datasets/b.png invented"),
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


@pytest.mark.parametrize(
    "nothing",
    [{"tables": {}}, {"tables": {"t": table((0, "0"), (0, "0"))}}, {"tables": {"t": table(None)}}, {"objects": {"expected": 0}}],
)
def test_nothing_to_compare_is_no_pass(nothing: dict[str, Any]) -> None:
    assert judge(**nothing).outcome is Outcome.INCONCLUSIVE


def test_many_differences_are_counted_and_the_first_named() -> None:
    verdict = judge(objects={"lost": [f"ml-datasets/{number}.png" for number in range(9)]})
    assert verdict.measured == 9
    assert verdict.why.endswith("and 6 more")


def attempt(seq: int, fate: Fate = Fate.ACKED) -> Attempt:
    """Sent at second `seq`, its fate known a tenth later."""
    sent, done = float(seq), None if fate is Fate.UNKNOWN else seq + 0.1
    return Attempt(key=Key("run", 0, seq), payload="aa", sent=sent, sent_wall=sent, done=done, done_wall=done, fate=fate)


def row(seq: int, payload: str = "aa") -> Row:
    return Row(Key("run", 0, seq), payload)


def test_what_was_archived_is_reached_and_the_rest_is_the_loss() -> None:
    reached = reach([attempt(seq) for seq in range(100)], [row(seq) for seq in range(61)], lost_at=90.5)
    assert reached == Reach(disaster_at=90.1, until=60.0, gaps=0, acked=91)
    verdict = data_loss(promise("data-loss"), reached)
    assert (verdict.outcome, verdict.n) == (Outcome.KEPT, 91)
    assert verdict.measured == pytest.approx(30.1)


def test_a_gap_makes_the_loss_as_old_as_the_gap() -> None:
    reached = reach([attempt(seq) for seq in range(100)], [row(seq) for seq in range(90) if seq != 40], lost_at=90.5)
    assert (reached.until, reached.gaps) == (39.0, 1)


@pytest.mark.parametrize(
    ("rows", "gaps"),
    [([row(0), row(1, "bb")], 1), ([row(0), row(1), row(1)], 1), ([row(0), row(1), row(2)], 1), ([row(0), row(1)], 0)],
)
def test_altered_doubled_and_invented_markers_are_gaps(rows: list[Row], gaps: int) -> None:
    assert reach([attempt(0), attempt(1), attempt(2, Fate.FAILED)], rows, lost_at=9.0).gaps == gaps


def test_a_write_of_unknown_fate_may_be_there_or_not() -> None:
    attempts = [attempt(0), attempt(1, Fate.UNKNOWN), attempt(2)]
    assert reach(attempts, [row(0), row(2)], lost_at=9.0) == Reach(disaster_at=2.1, until=2.0, gaps=0, acked=2)
    assert reach(attempts, [row(0), row(1)], lost_at=9.0).until == 1.0


def test_what_came_after_the_loss_makes_it_no_smaller_than_nothing() -> None:
    reached = reach([attempt(seq) for seq in range(9)], [row(seq) for seq in range(9)], lost_at=5.5)
    assert data_loss(promise("data-loss"), reached).measured == 0.0


def test_a_day_of_lost_data_breaks_the_promise() -> None:
    lost = Reach(disaster_at=86_400.0, until=0.0, gaps=0, acked=9)
    assert data_loss(promise("data-loss"), lost).outcome is Outcome.BROKEN


def test_no_restored_row_at_all_breaks_the_promise() -> None:
    verdict = data_loss(promise("data-loss"), reach([attempt(0)], [], lost_at=9.0))
    assert (verdict.outcome, verdict.measured) == (Outcome.BROKEN, math.inf)


def test_no_acknowledged_write_is_no_pass() -> None:
    reached = reach([attempt(0, Fate.FAILED)], [], lost_at=9.0)
    assert data_loss(promise("data-loss"), reached).outcome is Outcome.INCONCLUSIVE


def test_one_failed_point_breaks_the_checklist() -> None:
    verdict = failed_points(promise("restore-checklist"), {"prediction": "other bits"}, 9)
    assert (verdict.outcome, verdict.measured, verdict.n) == (Outcome.BROKEN, 1.0, 9)
    assert verdict.why == "prediction: other bits"
    assert failed_points(promise("restore-checklist"), {}, 9).outcome is Outcome.KEPT


LOG = promise("prediction-log")


@pytest.mark.parametrize(
    ("answered", "recorded", "dropped", "outcome", "measured", "said"),
    [
        (5000, 5000, 0.0, Outcome.KEPT, 0, "5,000 requests in the log, 5,000 answered"),
        # A user gave up, and the log has the prediction all the same.
        (4999, 5000, 0.0, Outcome.KEPT, 0, "5,000 requests in the log, 4,999 answered"),
        (5000, 4999, 0.0, Outcome.BROKEN, 1, "4,999 requests in the log, 5,000 answered"),
        (5000, 5000, 2.0, Outcome.BROKEN, 2, "2 dropped by the replicas"),
        (5000, 4990, None, Outcome.BROKEN, 10, "0 dropped by the replicas"),
        (5000, 5000, None, Outcome.INCONCLUSIVE, 0, "what the replicas dropped is not known"),
        (999, 999, 0.0, Outcome.INCONCLUSIVE, 0, "999 of at least 1,000 predictions"),
        (0, 0, 0.0, Outcome.INCONCLUSIVE, None, "no prediction was answered"),
        (5000, None, 0.0, Outcome.INCONCLUSIVE, None, "the log could not be read"),
    ],
)
def test_the_log_is_judged_by_what_it_lacks(  # noqa: PLR0913, PLR0917 - one column each
    answered: int, recorded: int | None, dropped: float | None, outcome: Outcome, measured: float | None, said: str
) -> None:
    verdict = unrecorded(LOG, answered, recorded, dropped)
    assert (verdict.outcome, verdict.measured) == (outcome, measured)
    assert said in verdict.why


@pytest.mark.parametrize("dropped", [-1.0, math.nan])
def test_a_counter_that_fell_or_holds_no_number_makes_nothing_up(dropped: float) -> None:
    assert unrecorded(LOG, 5000, 4999, dropped).outcome is Outcome.BROKEN
    assert unrecorded(LOG, 5000, 5000, dropped).outcome is Outcome.INCONCLUSIVE
