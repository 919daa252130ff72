from __future__ import annotations

from typing import Any

import pytest

from sre.errors import StepFailed
from tests.bench import synchronous
from tests.bench.synchronous import Outage

WAITED = Outage(seconds=10.0, silent_s=10.0, late=0, resumed_s=1.5)
WENT_ON = Outage(seconds=10.0, silent_s=2.0, late=900, resumed_s=0.0)


def log(count: int, slow_every: int) -> list[str]:
    """Lines as pgbench writes them: one client commits back to back, each in 2 ms but for some that take 20."""
    lines, now = [], 1_800_000_000_000_000
    for number in range(count):
        waited = 2_000 if (number + 1) % slow_every else 20_000
        now += waited
        lines.append(f"0 {number} {waited} 0 {now // 1_000_000} {now % 1_000_000}")
    return lines


@pytest.mark.parametrize(("slow_every", "rate", "p99_ms"), [(100, 1000 / 2.18, 2.0), (50, 1000 / 2.36, 20.0)])
def test_figures_of_a_turn_come_from_the_log_of_its_transactions(slow_every: int, rate: float, p99_ms: float) -> None:
    assert synchronous.figures(log(1000, slow_every)) == pytest.approx((rate, 2.0, p99_ms))


@pytest.mark.parametrize("count", [0, 99])
def test_too_few_commits_have_no_p99(count: int) -> None:
    with pytest.raises(StepFailed, match=f"made {count} commits.*more --seconds"):
        synchronous.figures(log(count, 100))


def test_a_ratio_compares_turns_of_one_round() -> None:
    # The machine is half as fast in the second half; within each round the ratio is the same.
    off = [1000.0, 1000.0, 1000.0, 500.0, 500.0, 500.0, 500.0]
    found, interval = synchronous.ratio([0.8 * rate for rate in off], off)
    assert found == pytest.approx(0.8)
    assert interval == pytest.approx((0.8, 0.8))


def test_the_interval_of_seven_rounds_reaches_from_the_least_to_the_largest() -> None:
    assert synchronous.ratio([3, 1, 7, 2, 6, 4, 5], [1] * 7) == (4.0, (1.0, 7.0))
    assert synchronous.ratio([3, 1, 2, 5, 4], [1] * 5) == (3.0, None)


def test_an_outage_is_silent_for_its_longest_time_without_an_acknowledgement() -> None:
    acked = [9.0, 9.9, 10.2, 10.4, 17.4, 18.0, 22.5, 23.0]
    seen = synchronous.outage(acked, start=10.0, end=20.0)
    assert seen == pytest.approx(Outage(seconds=10.0, silent_s=7.0, late=2, resumed_s=2.5))
    assert synchronous.outage([9.0, 9.9], start=10.0, end=20.0) == Outage(10.0, 10.0, 0, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"strict": WENT_ON}, "strict: 900 commits were acknowledged that only the primary has"),
        ({"on": WAITED}, "on: no commit was acknowledged in 10 s without standbys"),
        ({"off": WAITED}, "off: no commit was acknowledged in 10 s"),
        ({"strict": WAITED._replace(resumed_s=None)}, "strict: no commit was acknowledged once the standbys were back"),
        ({"strict": None}, "strict: no outage was measured"),
    ],
)
def test_each_mode_must_do_in_the_outage_what_it_is_for(changes: dict[str, Any], words: str) -> None:
    given = {"off": WENT_ON, "on": WENT_ON, "strict": WAITED, **changes}
    found = synchronous.complaints({mode: seen for mode, seen in given.items() if seen is not None})  # type: ignore[misc]
    assert [sentence for sentence in found if words in sentence] == found
    assert len(found) == bool(words)


def test_the_tables_name_every_mode_and_say_when_there_were_too_few_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"rate": 900.0, "p50_ms": 1.0, "p99_ms": 3.0}
    turns = [
        {"writers": 8, "mode": "off", **figures, "ratio": 1.0, "interval": (1.0, 1.0)},
        {"writers": 8, "mode": "on", **figures, "ratio": 0.6, "interval": (0.5, 0.7)},
        {"writers": 8, "mode": "strict", **figures, "ratio": 0.6, "interval": None},
    ]
    environment = {"PostgreSQL": "15.1", "Patroni": "4.1.5", "cores": 2, "system": "Linux", "rounds": 7, "seconds": 10}
    outages = {"on": WENT_ON._asdict(), "strict": WAITED._replace(resumed_s=None)._asdict()}
    synchronous.show({"turns": turns, "outages": outages, "environment": environment})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "8 on 900 0.60 [0.50, 0.70] 1.00 ms 3.00 ms" in lines
    assert "8 strict 900 0.60, too few rounds 1.00 ms 3.00 ms" in lines
    assert "strict 10.0 of 10 s none" in lines
    assert "on 2.0 of 10 s 0.0 s" in lines
