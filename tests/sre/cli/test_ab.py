from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
HEAD = "time,arm,successes,trials\n0,control,0,0\n86400,"


def write(folder: Path, control: str, treatment: str) -> str:
    path = folder / "ab.csv"
    path.write_text(f"{HEAD}control,{control}\n86400,treatment,{treatment}\n")
    return str(path)


@pytest.mark.parametrize(
    ("counts", "options", "ended"),
    [
        (("500,10000", "700,10000"), [], (0, "WINNER treatment")),
        (("500,10000", "700,10000"), ["--arms", "treatment,control"], (0, "control minus treatment: -2 points")),
        (("500,10000", "530,10000"), [], (3, "UNDECIDED about")),
        (("50000,1000000", "50100,1000000"), ["--worth", "1%"], (0, "NO DIFFERENCE of 1 points or more")),
        (("500,10000", "500,10000"), [], (3, "more than 1,000 times the data")),
        (("500,10000", "650,11000"), [], (3, "NO DECISION users are split 47.62% to 52.38%")),
    ],
)
def test_what_a_comparison_says(
    sre: Run, tmp_path: Path, counts: tuple[str, str], options: list[str], ended: tuple[int, str]
) -> None:
    done = sre("ab", write(tmp_path, *counts), *options)
    code, said = ended
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stdout.split())


def test_the_same_for_machines(sre: Run, tmp_path: Path, document: Document) -> None:
    found = document(sre("ab", write(tmp_path, "500,10000", "530,10000"), "--json"), "sre.ab/1")
    assert (found["decided"], found["winner"], found["alike"], found["split"]) == (False, None, False, "")
    assert found["seconds_more"] == pytest.approx(86_400 * (found["times_the_data"] - 1))
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert found["arms"][0] == {"name": "control", "trials": 10_000, "successes": 500, "mean": 0.05}
    endless = document(sre("ab", write(tmp_path, "500,10000", "500,10000"), "--json"), "sre.ab/1")
    assert (endless["times_the_data"], endless["seconds_more"]) == (None, None)


def test_a_bounded_value(sre: Run, tmp_path: Path) -> None:
    path = tmp_path / "ab.csv"
    rows = (f"{at},{arm},{value + at % 3}" for at in range(300) for arm, value in (("a", 2), ("b", 4)))
    path.write_text("time,arm,value\n" + "\n".join(rows) + "\n")
    done = sre("ab", str(path), "--bounds", "0,10")
    assert (done.returncode, "WINNER  b" in done.stdout, "300 moments" in done.stdout) == (0, True, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say where the numbers are"),
        (["absent.csv", "--prometheus", "http://127.0.0.1:1"], "say where the numbers are"),
        (["--prometheus", "http://127.0.0.1:1"], "--prometheus needs --successes, --trials and --arms"),
        (["absent.csv"], "absent.csv cannot be read"),
        (["absent.csv", "--arms", "a"], "--arms 'a' are not two names"),
        (["absent.csv", "--arms", "a,a"], "--arms 'a,a' are not two names"),
        (["absent.csv", "--bounds", "1,0"], "--bounds '1,0' are not two numbers"),
        (["absent.csv", "--alpha", "0%"], "--alpha 0% does not lie strictly between 0 and 1"),
        (["absent.csv", "--split", "100%"], "--split 100% does not lie strictly between 0 and 1"),
        (["absent.csv", "--worth", "much"], "ratio 'much'"),
    ],
)
def test_what_is_asked_wrongly_is_explained(sre: Run, options: list[str], said: str) -> None:
    done = sre("ab", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_a_prometheus_that_does_not_answer_is_no_decision(sre: Run) -> None:
    done = sre("ab", "--prometheus", "http://127.0.0.1:1", "--successes", "x", "--trials", "y", "--arms", "a,b")
    assert done.returncode == 4
    assert "no answer came" in done.stderr
