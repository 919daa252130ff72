from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from system import telemetry
from system.serving import traffic
from system.serving.traffic import CAPACITY, Shadow, challenged

shares = st.floats(0, 1)


@given(st.text(), shares, shares)
def test_who_is_challenged_at_a_share_is_challenged_at_every_larger_one(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert challenged(key, small) <= challenged(key, large)
    assert challenged(key, large) == challenged(key, large)


@given(st.text())
def test_no_share_is_nobody_and_the_whole_is_everybody(key: str) -> None:
    assert not challenged(key, 0)
    assert challenged(key, 1)


def test_the_draw_is_the_same_on_every_machine_for_ever() -> None:
    assert "".join("x" if challenged(str(number), 0.5) else "." for number in range(8)) == ".x..xxxx"


@pytest.mark.parametrize("prefix", ["", "user-", "0000000000000000"])
def test_keys_fall_evenly(prefix: str) -> None:
    """Chi-square over sixteen equal classes of 100,000 neighbouring keys: one even draw in a thousand exceeds 37.7."""
    counts = np.bincount([_sixteenth(f"{prefix}{number}") for number in range(100_000)], minlength=16)
    assert ((counts - 6250) ** 2 / 6250).sum() < 37.7
    assert abs(sum(challenged(f"{prefix}{number}", 0.1) for number in range(100_000)) - 10_000) < 4 * 95  # four sigma


def _sixteenth(key: str) -> int:
    """Of the scale of shares, the sixteenth in which the key is challenged for the first time."""
    first = 0
    for step in (8, 4, 2, 1):
        if not challenged(key, (first + step) / 16):
            first += step
    return first


def test_shadowing_is_drawn_apart_from_answering() -> None:
    """Else the requests that production answered, the ones shown to the challenger, would be never drawn at small shares."""
    keys = [str(number) for number in range(20_000)]
    both = sum(challenged(key, 0.3) and traffic._drawn(key, 0.3, traffic._SHADOWED) for key in keys)
    assert abs(both / 20_000 - 0.09) < 0.01


@dataclass
class Second:
    """A challenger that says what it is told to, or does what it is told to."""

    version: str
    says: Any = None
    saw: list[Any] = field(default_factory=list)

    def infer_now(self, images: Any) -> Any:
        self.saw.append(images)
        return self.says(images) if callable(self.says) else self.says


numbers = itertools.count(1)
IMAGES = np.zeros((2, 32, 32, 3), np.uint8)
SAID = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)


@pytest.fixture
def version() -> str:
    """One that no other test counts under."""
    return f"99{next(numbers)}"


@pytest.fixture
def begin() -> Iterator[Callable[..., Shadow]]:
    begun: list[Shadow] = []

    def start(challenger: Any, share: float = 1) -> Shadow:
        begun.append(Shadow(challenger if callable(challenger) else lambda: challenger, share))
        begun[-1].start()
        return begun[-1]

    yield start
    for shadow in begun:
        shadow.stop(within_s=5)
        assert not shadow._thread.is_alive()


def value(name: str, version: str | None = None) -> float:
    return telemetry.REGISTRY.get_sample_value(name, {"model_version": version} if version else {}) or 0.0


def until(what: Callable[[], object], within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.005)


def test_agreement_and_distance_are_counted_for_each_image(begin: Any, version: str) -> None:
    begin(Second(version, np.array([[0.7, 0.3], [0.6, 0.4]], np.float32))).offer(IMAGES, SAID, "key")
    until(lambda: value("shadow_probability_difference_count", version) == 2)
    assert value("shadow_predictions_total", version) == 2
    assert value("shadow_agreements_total", version) == 1
    assert value("shadow_probability_difference_sum", version) == pytest.approx(0.2 + 0.4)


def test_only_the_share_is_shown(begin: Any, version: str) -> None:
    second = Second(version, SAID)
    shadow = begin(second, 0.2)
    for number in range(500):
        shadow.offer(IMAGES, SAID, str(number))
        if number % 50 == 0:
            until(lambda: not shadow._queue)
    drawn = sum(traffic._drawn(str(number), 0.2, traffic._SHADOWED) for number in range(500))
    until(lambda: len(second.saw) == drawn)
    assert 60 < drawn < 140


def _raises(_: Any) -> Any:
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize(
    "says",
    [
        _raises,
        np.ones((2, 3), np.float32),
        np.ones((1, 2, 2), np.float32),
        np.ones((1, 2), np.float32),
        np.full((2, 2), np.nan, np.float32),
        None,
    ],
)
def test_a_broken_challenger_is_counted_and_complained_about_once(
    begin: Any, version: str, says: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shadow = begin(Second(version, says))
    for _ in range(3):
        shadow.offer(IMAGES, SAID, "key")
    until(lambda: value("shadow_failures_total", version) == 3)
    assert value("shadow_predictions_total", version) == value("shadow_probability_difference_sum", version) == 0
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"version {version} could not answer as a shadow" in caplog.text


def test_a_slow_challenger_makes_offers_drop_and_never_wait(begin: Any, version: str) -> None:
    released, entered = threading.Event(), threading.Event()

    def stuck(_: Any) -> Any:
        entered.set()
        released.wait(10)
        return SAID

    second = Second(version, stuck)
    shadow, dropped = begin(second), value("shadow_dropped_total")
    shadow.offer(IMAGES, SAID, "key")
    assert entered.wait(5)
    for _ in range(CAPACITY + 7):  # would never end if it waited
        shadow.offer(IMAGES, SAID, "key")
    assert value("shadow_dropped_total") == dropped + 7
    released.set()
    until(lambda: value("shadow_predictions_total", version) == 2 * (CAPACITY + 1))


def test_without_a_challenger_or_a_share_nothing_is_kept(begin: Any, version: str) -> None:
    for shadow in (begin(lambda: None), begin(Second(version, SAID), 0.0)):
        for number in range(100):
            shadow.offer(IMAGES, SAID, str(number))
        assert not shadow._queue
    assert not shadow._thread.is_alive()  # nothing to compare


def test_a_new_challenger_is_counted_under_its_own_version(begin: Any, version: str) -> None:
    seconds = [Second(f"{version}0", SAID), Second(f"{version}1", _raises), None]
    shadow = begin(lambda: seconds[0])
    shadow.offer(IMAGES, SAID, "key")
    until(lambda: value("shadow_predictions_total", f"{version}0"))
    del seconds[0]
    shadow.offer(IMAGES, SAID, "key")
    until(lambda: value("shadow_failures_total", f"{version}1"))
    del seconds[0]
    shadow._queue.append((IMAGES, SAID))  # offered just before the challenger went
    until(lambda: not shadow._queue)
    assert value("shadow_predictions_total", f"{version}0") == 2
    assert value("shadow_failures_total", f"{version}1") == 1


def test_it_ends_at_once_whatever_waits(begin: Any, version: str) -> None:
    second = Second(version, SAID)
    shadow = begin(second)
    shadow.stop(within_s=5)
    shadow.offer(IMAGES, SAID, "key")
    assert not shadow._thread.is_alive()
    assert not second.saw
