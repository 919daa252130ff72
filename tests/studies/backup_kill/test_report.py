from __future__ import annotations

from typing import Any

from sre.errors import ExitCode
from tests.studies.backup_kill.moments import PHASES, VICTIMS
from tests.studies.backup_kill.report import conclusion, line, text
from tests.studies.backup_kill.study import Result


def make_result(seed: int = 0, **changes: Any) -> Result:
    fields: dict[str, Any] = {
        "seed": seed, "victim": VICTIMS[seed % 3], "kind": "full", "after_s": 2.5, "phase": PHASES[1], "hit": ["sre"],
        "status": -9, "earlier": 2, "restored": "a" if seed % 10 == 9 else "",
    }  # fmt: skip
    return Result(**(fields | changes))


def test_a_study_without_a_difference_says_so() -> None:
    status, said = conclusion([make_result(seed) for seed in range(50)])
    assert status is ExitCode.KEPT
    assert said.startswith("50 of 50 kills carried out, 5 earlier sets restored: every earlier set whole")


def test_a_difference_breaks_the_promise_even_where_a_kill_is_missing() -> None:
    status, said = conclusion([make_result(7, phase=""), make_result(8, differences=["store: gone"])])
    assert status is ExitCode.BROKEN
    assert said.endswith("not as promised after kill 8")


def test_too_little_is_no_pass() -> None:
    assert conclusion([])[0] is ExitCode.INCONCLUSIVE
    assert conclusion([make_result(0)])[0] is ExitCode.INCONCLUSIVE
    assert conclusion([make_result(8, phase=""), make_result(9)])[0] is ExitCode.INCONCLUSIVE
    assert conclusion([make_result(9)])[0] is ExitCode.KEPT


def test_the_report_shows_kills_by_phase_and_victim_and_each_difference() -> None:
    results = [make_result(seed, counted={"store": "unverified"} if seed < 4 else {}) for seed in range(9)]
    results += [make_result(11, hit=["pgbackrest", "pgbackrest"]), make_result(9, differences=["store: set a is gone"])]
    told = text(results)
    assert "\nphase                    command      tree     store\n" in told
    assert "\ndatabase here                  4         3         4\n" in told
    assert "\nending                         0         0         0\n" in told
    assert "the store's writer was pgbackrest 1 times, the command 3 times" in told
    assert "the set that was hit is unverified / none (here / off site): 4 times" in told
    assert "kill 9, full, command at database here: store: set a is gone" in told


def test_a_line_per_kill() -> None:
    assert line(make_result(1)) == "kill 1, full: tree (sre) after 2.5 s, at database here: as promised"
    assert line(make_result(2, phase="")) == "kill 2: every backup ended before its moment"
