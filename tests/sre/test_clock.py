from __future__ import annotations

import subprocess
import sys

import pytest

from sre.clock import SystemClock, iso, moment
from sre.errors import UsageError


def test_the_monotonic_clock_is_the_same_in_another_process() -> None:
    clock = SystemClock()
    before = clock.now()
    child = subprocess.run(
        [sys.executable, "-c", "from sre.clock import SystemClock; print(repr(SystemClock().now()))"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert before <= float(child.stdout) <= clock.now()


def test_sleep_lets_the_time_pass() -> None:
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.01)
    assert clock.now() - before >= 0.01


def test_wall_time_is_utc_whatever_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert iso(1_767_225_600.0) == "2026-01-01T00:00:00.000Z"
    assert iso(1_767_225_600.5) < iso(SystemClock().wall())


def test_a_moment_is_read_with_its_zone_or_not_at_all() -> None:
    assert moment("2026-01-01T00:00:00Z") == moment("2026-01-01T01:00:00+01:00") == 1_767_225_600.0
    for text in ("2026-01-01T00:00:00", "now", "", "2026-13-01T00:00:00Z"):
        with pytest.raises(UsageError, match="write it with its zone"):
            moment(text)
