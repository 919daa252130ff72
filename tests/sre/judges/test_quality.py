from __future__ import annotations

import pytest

from sre.judges.quality import accuracy
from sre.promises import promise
from sre.verdict import Outcome


@pytest.mark.parametrize(
    ("right", "asked", "outcome"),
    [
        (268, 270, Outcome.KEPT),
        (270, 270, Outcome.KEPT),
        (235, 270, Outcome.INCONCLUSIVE),  # 87 %: its interval reaches below 85 %
        (229, 270, Outcome.BROKEN),
        (0, 270, Outcome.BROKEN),
        (20, 20, Outcome.INCONCLUSIVE),  # too few images
        (0, 0, Outcome.INCONCLUSIVE),
    ],
)
def test_the_share_of_right_answers_decides(right: int, asked: int, outcome: Outcome) -> None:
    assert accuracy(promise("model-quality"), right, asked).outcome is outcome


def test_the_interval_is_exact() -> None:
    verdict = accuracy(promise("model-quality"), 270, 270)
    # All of n right: the lower end is (alpha / 2) ** (1 / n).
    assert verdict.interval == pytest.approx((0.025 ** (1 / 270), 1.0))
