from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

import sre.canary
from sre.canary import Action, Model, counts, judge_counts
from sre.config import PROJECT
from sre.errors import UsageError

LOOKS = 80


def judged(bad: int, **options: object) -> Action:
    arms = {"canary": [bad] * LOOKS, "canary_of": [1000] * LOOKS, "control": [10] * LOOKS, "control_of": [1000] * LOOKS}
    return judge_counts(**(arms | options)).action  # type: ignore[arg-type]


def test_the_example_of_the_docstring_runs() -> None:
    found = doctest.testmod(counts)
    assert (found.failed, found.attempted) == (0, 6)


@pytest.mark.parametrize("model", list(Model))
def test_worse_rolls_back_and_as_good_promotes(model: Model) -> None:
    assert judged(30, model=model) is Action.ROLLBACK
    assert judged(10, model=model) is Action.PROMOTE


def test_what_is_within_the_margin_is_not_rolled_back() -> None:
    assert judged(15, model=Model.INDEPENDENT) is not Action.ROLLBACK
    assert judged(15, model=Model.INDEPENDENT, margin=0.1) is Action.ROLLBACK


def test_an_objective_is_kept_whatever_the_control_does() -> None:
    assert judged(10, at_most=0.02) is Action.PROMOTE
    assert judged(10, at_most=0.005) is Action.HOLD


def test_traffic_that_is_split_otherwise_holds() -> None:
    assert judged(10, canary_of=[2000] * LOOKS) is Action.HOLD


@pytest.mark.parametrize("wrong", [{"canary": [1]}, {"canary": [], "canary_of": [], "control": [], "control_of": []}])
def test_counts_of_different_length_or_none_are_refused(wrong: dict[str, list[int]]) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        judged(10, **wrong)


def test_the_library_lists_what_it_has_and_loads_no_client() -> None:
    assert all(hasattr(sre.canary, name) for name in sre.canary.__all__)
    assert sorted(sre.canary.__all__) == sre.canary.__all__
    script = "import sys, sre.canary; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT).stdout
    assert not {"httpx", "promql_parser", "pydantic", "torch", "rich", "typer"} & set(loaded.split())
