"""How an action that Chaos Toolkit calls finds the target and the ledger: by environment, or bound within one process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from sre.config import Settings
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets import handles
from sre.targets.base import Target

TARGET_VARIABLE = "SRE_ATTACH"
LEDGER_VARIABLE = "SRE_LEDGER"


@dataclass(slots=True)
class _Bound:
    target: Target | None = None
    ledger: Ledger | None = None


_bound = _Bound()


def bind(target: Target | None, ledger: Ledger | None) -> None:
    """Use these instead of the environment: for targets that live in this process only."""
    _bound.target, _bound.ledger = target, ledger


def end_orphans(ledger: Ledger) -> int:
    """End experiments that still write to a ledger although their run was killed: one could inject after the undo.

    Returns:
        How many there were.
    """
    orphans = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(LEDGER_VARIABLE) == str(ledger.path):
                process.kill()
                orphans.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    psutil.wait_procs(orphans, timeout=10)
    return len(orphans)


def current() -> tuple[Target, Ledger]:
    """The target to change, and the ledger to write the undo to.

    Outside a run, as with a plain `chaos run`, the running local system and a ledger in its folder are used.

    Raises:
        UsageError: the handle names no known target.
        TargetUnavailable: nothing runs there.
    """
    if _bound.target is not None and _bound.ledger is not None:
        return _bound.target, _bound.ledger
    settings = Settings()
    handle = os.environ.get(TARGET_VARIABLE, f"local:{settings.home}")
    ledger = os.environ.get(LEDGER_VARIABLE, Path(handle.partition(":")[2]) / LEDGER_NAME)
    return handles.attach(handle, settings.tools), Ledger(Path(ledger))
