from __future__ import annotations

from collections.abc import Sequence

import pytest

from sre.judges.scaling import ScaleLook, scaling
from sre.promises import promise
from sre.verdict import Outcome, Verdict

LEAST, MOST, ENDED = 3, 6, 200.0


def _looks(steps: Sequence[tuple[float, int]], until: float = 1200.0, lag: float = 5.0) -> list[ScaleLook]:
    """One look a second; what is wanted changes at these moments, and is ready so much later."""

    def at(moment: float) -> int:
        return [LEAST, *(wanted for when, wanted in steps if when <= moment)][-1]

    return [ScaleLook(float(second), at(second), at(second - lag)) for second in range(int(until))]


def _judge(looks: Sequence[ScaleLook]) -> Verdict:
    return scaling(promise("scale-out"), looks, ended=ENDED, least=LEAST, most=MOST)


FOLLOWED = ((40.0, 4), (70.0, 5), (501.0, 4), (801.0, 3))


def test_replicas_that_follow_in_steps_are_kept() -> None:
    verdict = _judge(_looks(FOLLOWED))
    assert verdict.outcome is Outcome.KEPT
    assert verdict.measured == 0
    assert verdict.why == "3 replicas, 5 wanted under the load, 3 at the end; one more served after 45 s"


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (((40.0, 5), (501.0, 4), (801.0, 3)), "from 3 to 5 in one step"),
        (((40.0, 4), (55.0, 5), (501.0, 4), (801.0, 3)), "from 4 to 5 15 s after the step before it, 30 s at least"),
        (((40.0, 4), (70.0, 5), (501.0, 4), (561.0, 3)), "from 4 to 3 60 s after the step before it, 300 s at least"),
        (((40.0, 4), (70.0, 5), (501.0, 4)), "4 still wanted 1199 s after the load began"),
        (((40.0, 4), (501.0, 2), (801.0, 3)), "only 2 were ready for a while"),
        (((40.0, 4), (70.0, 5), (100.0, 6), (130.0, 7), (501.0, 6), (801.0, 5)), "7 wanted, 6 at most"),
    ],
)
def test_every_step_that_it_may_not_take_is_named(steps: Sequence[tuple[float, int]], words: str) -> None:
    verdict = _judge(_looks(steps))
    assert verdict.outcome is Outcome.BROKEN
    assert words in verdict.why


def test_replicas_that_never_serve_do_not_follow() -> None:
    verdict = _judge([ScaleLook(look.at, look.wanted, LEAST) for look in _looks(FOLLOWED)])
    assert verdict.outcome is Outcome.BROKEN
    assert "3 of the 5 wanted ever served" in verdict.why


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([], "nobody looked"),
        (_looks(FOLLOWED, until=150.0), "nobody looked under the load and after it"),
        ([ScaleLook(300.0, 3, 3)], "nobody looked"),
        (_looks(()), "never wanted more than 3 replicas; send more with --rate"),
    ],
)
def test_without_looks_or_without_a_need_nothing_is_proven(looks: Sequence[ScaleLook], words: str) -> None:
    verdict = _judge(looks)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert words in verdict.why
