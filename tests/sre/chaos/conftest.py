from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.chaos import attach
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.memory import MemoryTarget


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / LEDGER_NAME)


@pytest.fixture
def bound(target: MemoryTarget, ledger: Ledger) -> Iterator[None]:
    """Actions and probes find the memory target, as within a run."""
    attach.bind(target, ledger)
    yield
    attach.bind(None, None)
