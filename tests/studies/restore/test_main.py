from __future__ import annotations

from typing import Any

import pytest

from sre.errors import ExitCode
from tests.studies.restore.__main__ import AIM_S, conclusion


def record(outcome: str, seconds: float | None) -> dict[str, Any]:
    time = {"promise": "restore-time", "outcome": outcome, "why": "served", "measured": seconds}
    content = {"promise": "restore-content", "outcome": "kept", "why": "all the same", "measured": 0.0}
    return {"drills": [{"verdicts": [time, content]}]}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (record("kept", 20.0), ExitCode.KEPT),
        (record("kept", AIM_S + 1), ExitCode.BROKEN),
        (record("inconclusive", 20.0), ExitCode.BROKEN),
        (record("error", None), ExitCode.BROKEN),
        ({"drills": [{"verdicts": []}]}, ExitCode.CANNOT_RUN),
        ({"error": "no system runs"}, ExitCode.CANNOT_RUN),
    ],
)
def test_only_a_restore_that_kept_everything_in_time_is_good(found: dict[str, Any], code: ExitCode) -> None:
    assert conclusion(found)[0] is code


def test_each_verdict_is_told() -> None:
    told = ["restore-time: kept, served", "restore-content: kept, all the same", "20.0 s of 300 s to a bit-equal prediction"]
    assert conclusion(record("kept", 20.04))[1] == told
