from __future__ import annotations

import re

from system import errors
from system.errors import MlSystemError


def _leaves() -> dict[str, type[MlSystemError]]:
    return {name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, MlSystemError)}


def test_the_drawn_tree_names_every_class_and_its_status() -> None:
    drawn = dict(re.findall(r"^ *[*x-] (\w+) *(\d{3})?", errors.__doc__ or "", re.MULTILINE))
    assert drawn.keys() == _leaves().keys()
    for name, status in drawn.items():
        if status:
            assert _leaves()[name].status == int(status)


def test_only_what_time_can_cure_is_retryable() -> None:
    retryable = {name for name, found in _leaves().items() if found.retryable}
    assert retryable == {
        "RateLimited",
        "Unavailable",
        "ModelNotReady",
        "Overloaded",
        "DeadlineExceeded",
        "RegistryError",
        "StorageError",
    }


def test_codes_of_refusals_are_distinct() -> None:
    codes = [found.code for found in _leaves().values() if 400 <= found.status < 500]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z-]+", code) for code in codes)
