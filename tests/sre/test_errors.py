from __future__ import annotations

import pytest

from sre import errors
from sre.errors import ExitCode, SreError

LEAVES = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, SreError)]


def test_the_exit_codes_are_the_published_ones() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "KEPT": 0, "BROKEN": 1, "USAGE": 2, "INCONCLUSIVE": 3, "CANNOT_RUN": 4,
        "NOTHING_SELECTED": 5, "UNDO_INCOMPLETE": 6, "INTERRUPTED": 130,
    }  # fmt: skip


def test_every_exit_code_has_its_own_meaning() -> None:
    assert len({code.meaning for code in ExitCode}) == len(ExitCode)


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_the_drawn_tree_names_every_error_and_none_ends_as_kept_or_broken(error: type[SreError]) -> None:
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__
    assert error.exit_code not in {ExitCode.KEPT, ExitCode.BROKEN}


def test_an_error_exits_as_its_branch_of_the_tree_says() -> None:
    assert {error.__name__: error.exit_code.value for error in LEAVES if error.exit_code is not ExitCode.CANNOT_RUN} == {
        "UsageError": 2, "NothingSelected": 5, "UndoIncomplete": 6,
    }  # fmt: skip
