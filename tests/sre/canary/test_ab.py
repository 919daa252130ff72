from __future__ import annotations

import math

import numpy as np
import pytest

from sre.canary.ab import Arm, Terms, compare, totals
from sre.errors import UsageError


def ratio(first: tuple[int, int], second: tuple[int, int]) -> tuple[Arm, Arm]:
    return totals([("a", *first), ("b", *second)], ("a", "b"))


def test_the_better_arm_wins_whichever_it_is() -> None:
    first, second = ratio((500, 10_000), (700, 10_050))
    found = compare(first, second, Terms())
    assert (found.winner, found.decided, found.more) == ("b", True, None)
    assert 0 < found.low < found.difference < found.high
    assert found.difference == pytest.approx(700 / 10_050 - 0.05)
    turned = compare(second, first, Terms())
    assert turned.winner == "b"
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_without_a_decision_it_says_how_much_more_is_needed_and_that_is_enough() -> None:
    found = compare(*ratio((100, 2000), (130, 2000)), Terms())
    assert (found.winner, found.decided, found.alike) == (None, False, False)
    assert found.more is not None
    assert 1 < found.more < 10
    enough = math.ceil(found.more)
    assert compare(*ratio((100 * enough, 2000 * enough), (130 * enough, 2000 * enough)), Terms()).winner == "b"
    assert compare(*ratio((100, 2000), (100, 2000)), Terms()).more == math.inf


def test_a_difference_that_does_not_matter_ends_a_test_without_a_winner() -> None:
    arms = ratio((50_000, 1_000_000), (50_100, 1_000_000))
    assert not compare(*arms, Terms()).decided
    found = compare(*arms, Terms(worth=0.01))
    assert (found.alike, found.winner, found.decided) == (True, None, True)


def test_a_wrong_split_of_users_voids_everything() -> None:
    found = compare(*ratio((500, 10_000), (900, 11_000)), Terms())
    assert (found.winner, found.alike, found.decided) == (None, False, False)
    assert "users are split 47.62% to 52.38% (a to b), planned 50.00% to 50.00%" in found.split
    assert compare(*ratio((500, 10_000), (900, 11_000)), Terms(split=11 / 21)).winner == "b"


def test_what_changes_for_both_arms_cancels_in_a_bounded_value() -> None:
    rng = np.random.default_rng(12)
    swing = 0.4 + 0.3 * np.sin(np.arange(400))
    noise = rng.normal(0, 0.02, (2, 400))
    first = Arm("a", 0, None, tuple(swing + noise[0]))
    better = Arm("b", 0, None, tuple(swing + 0.1 + noise[1]))
    found = compare(first, better, Terms())
    assert (found.winner, found.log_e_split) == ("b", 0.0)
    assert found.low < 0.1 < found.high
    same = compare(first, Arm("b", 0, None, tuple(swing + noise[1])), Terms())
    assert same.winner is None
    assert same.low < 0 < same.high


def test_users_behind_a_bounded_value_are_held_against_the_split() -> None:
    first, second = (Arm(name, trials, None, (0.5,) * 10) for name, trials in (("a", 1000), ("b", 2000)))
    assert "users are split" in compare(first, second, Terms()).split


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (Arm("a", 0, 0), Arm("b", 10, 1), "arm 'a' has no data"),
        (Arm("a", 10, 1), Arm("b", 0, 0), "arm 'b' has no data"),
        (Arm("a", 0, None, (0.5, 0.5)), Arm("b", 0, None, (0.5,)), "'a' has 2 values and 'b' 1"),
    ],
)
def test_arms_that_do_not_fit_are_refused(first: Arm, second: Arm, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compare(first, second, Terms())
