from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.studies.failover.journal import Result


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    def make(seed: int = 0, **changes: Any) -> Result:
        fields: dict[str, Any] = {
            "seed": seed, "kinds": ("sigkill",), "acked": 2500, "attempts": 2600, "lost": 0, "invented": 0, "doubled": 0,
            "altered": 0, "unknown_found": 3, "unknown_absent": 4, "first_write": 8.0 + seed / 100, "full_service": 12.0,
            "primary_killed": True,
        }  # fmt: skip
        return Result(**(fields | changes))

    return make
