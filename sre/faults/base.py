"""What a fault is: a change to a running system that says beforehand how it is undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Undo:
    """How to take a change back; written to disk before the change, so it is data and not code.

    Attributes:
        action: a key of `ledger.ACTIONS`.
        arguments: for it.
        sentence: for people, as in `resume serving-2`.
    """

    action: str
    arguments: Mapping[str, str]
    sentence: str


class Fault(Protocol):
    """One change to a running system."""

    @property
    def name(self) -> str:
        """For people, as in `SIGKILL serving-2`."""
        ...

    @property
    def undo(self) -> Undo:
        """How to take it back, known before it happens."""
        ...

    def inject(self) -> None:
        """Do it."""
        ...
