"""Runs the cells that are missing from a study's journal."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from sre.config import PROJECT
from tests.studies.canary import bursts, counting, coverage, head, kinds, users, whole
from tests.studies.canary.cells import Cell, Scale
from tests.studies.canary.journal import Result, StudyJournal

_CODE = ("sre/measure", "sre/judges/canary", "tests/studies/canary")


def all_cells() -> list[Cell]:
    """Every cell, the quick ones first."""
    return [*users.cells(), *whole.cells(), *kinds.cells(), *coverage.cells(), *counting.cells(), *bursts.cells(), *head.cells()]


def settings(scale: Scale) -> dict[str, str]:
    """What a result depends on besides its seed."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _CODE for path in (PROJECT / folder).glob("*.py")):
        if not path.name.startswith("test_"):
            digest.update(path.read_bytes())
    return {"scale": scale.name, "code": digest.hexdigest(), "numpy": version("numpy"), "scipy": version("scipy")}


def run(journal: StudyJournal, cells: Sequence[Cell], scale: Scale, say: Callable[[str], None]) -> dict[str, Result]:
    """Run what has no result yet; each result is on disk before the next cell begins.

    Returns:
        The results by cell, those from before included.
    """
    done = journal.results()
    for number, cell in enumerate(cells, 1):
        if cell.id in done:
            continue
        began = time.monotonic()
        figures = cell.run(scale, cell.seed)
        done[cell.id] = Result(cell.id, round(time.monotonic() - began, 2), figures)
        journal.add(done[cell.id])
        say(f"{number} of {len(cells)}  {cell.id}: {done[cell.id].seconds:.1f} s")
    return done
