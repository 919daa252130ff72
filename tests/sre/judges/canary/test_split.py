from __future__ import annotations

import numpy as np
import pytest

from sre.judges.canary.split import Split


def test_a_right_split_is_not_called_wrong() -> None:
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(300):
        split = Split(alpha=0.05)
        split.begin(0.1)
        for _ in range(30):
            canary = int(random.binomial(500, 0.1))
            split.update(canary, 500 - canary)
            if split.wrong:
                wrong += 1
                break
    assert wrong <= 0.05 * 300 + 3 * (0.05 * 0.95 * 300) ** 0.5


@pytest.mark.parametrize(("canary", "favours"), [(700, True), (300, False)])
def test_a_wrong_split_names_both_and_whom_it_favours(canary: int, favours: bool) -> None:  # noqa: FBT001
    split = Split(alpha=0.001)
    split.begin(0.5)
    split.update(canary, 1000 - canary)
    assert split.wrong
    assert split.favours_canary is favours
    (finding,) = split.findings
    found = f"{canary / 10:.1f}%:{100 - canary / 10:.1f}%"
    assert finding == (
        f"traffic is split {found} (canary:control, 1,000 requests), planned 50.0%:50.0%; look at router and retries"
    )


def test_evidence_is_carried_to_the_next_stage_with_its_own_share() -> None:
    split = Split(alpha=0.001)
    split.begin(0.5)
    split.update(560, 440)
    first = split.log_e
    split.begin(0.2)
    assert split.log_e == pytest.approx(first)
    split.update(200, 800)
    assert split.log_e < first
    split.update(100, 0)
    assert split.log_e > first


def test_without_a_request_there_is_no_finding() -> None:
    split = Split(alpha=0.001)
    split.begin(0.5)
    assert (split.log_e, split.findings) == (0.0, ())
