from __future__ import annotations

import math
from typing import Any

import pytest

from sre.canary import view
from sre.canary.view import Snapshot
from sre.judges.canary.decision import Action, MetricStanding, Standing


def metric(**changed: Any) -> MetricStanding:
    fields: dict[str, Any] = {
        "name": "errors", "log_e_worse": math.log(10.0), "log_e_fine": math.log(0.5), "canary": 0.0123, "control": None,
        "unit": "share of requests", "n": 1234, "dispersion": 1.0, "why": "errors: few",
    }  # fmt: skip
    return MetricStanding(**(fields | changed))


def standing(**changed: Any) -> Standing:
    fields: dict[str, Any] = {
        "at": 100.0, "stage": 0, "stage_s": 10.0, "action": Action.HOLD, "reasons": ("not yet",),
        "log_e_rollback": math.log(10.0), "rollback_at": math.log(100.0), "promote_at": math.log(20.0), "log_e_sample_ratio": 0.0,
        "metrics": (metric(), metric(name="crashes", log_e_fine=None, canary=1.0, control=2.5, unit="crashes")),
    }  # fmt: skip
    return Standing(**(fields | changed))


def snapshot(**changed: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "run": "20260101T120000Z-canary", "title": "digits version 2", "stage": "1 of 3", "canary": 0.1, "control": 0.1,
        "elapsed_s": 61.0, "left_s": 119.5, "standing": standing(), "question": "", "last": "not yet",
    }  # fmt: skip
    return Snapshot(**(fields | changed))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.319, "0.31"), (0.0999, "0.09"), (1.79, "1.7"), (17.9, "17"), (99.9, "99"), (20.0, "20"), (100.0, "100"),
     (12_345.0, "12,000"), (1e5, "1e5"), (9.99e12, "1e12"), (0.001, "0"), (0.0, "0")],
)  # fmt: skip
def test_an_e_value_is_rounded_down(value: float, text: str) -> None:
    assert view.e_value(math.log(value) if value else -math.inf) == text


def test_evidence_is_a_share_of_the_way() -> None:
    assert view.evidence(math.log(10.0), math.log(100.0)) == view.Evidence(0.5, "10 of 100")
    assert view.evidence(math.log(0.1), math.log(100.0)).share == 0.0
    assert view.evidence(math.log(1e9), math.log(100.0)).share == 1.0


def test_rows_hold_the_whole_and_each_metric() -> None:
    together, errors, crashes = view.rows(standing())
    assert (together.metric, together.worse.text, together.fine) == ("together", "10 of 100", None)
    assert (errors.canary, errors.control, errors.n, errors.fine) == (
        "1.23 %",
        "no data",
        "1,234",
        view.Evidence(0.0, "0.5 of 20"),
    )
    assert (crashes.canary, crashes.control, crashes.fine) == ("1", "2.5", None)


def test_the_line_says_it_all() -> None:
    line = view.status_line(snapshot())
    for part in (
        "stage 1 of 3",
        "canary 10 %",
        "rollback evidence 10 of 100",
        "promotion evidence 0.5 of 20",
        "120.0 s left",
        "not yet",
    ):
        assert part in line
    assert view.status_line(snapshot(standing=None, left_s=None, question="go on?")).endswith("control 10 %; go on?")


def test_durations_round_up() -> None:
    assert [view.duration(value) for value in (0.0, 1.0, 59.2, 600.0)] == ["0 s", "1.0 s", "60.0 s", "10.0 min"]


def test_each_action_has_a_colour() -> None:
    assert len({view.style(action) for action in Action}) == 3
