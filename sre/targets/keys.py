"""The API keys that replicas accept: what a drill may do to them, and the memory target's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sre.errors import StepFailed
from sre.targets.simulation import Floats, SimulatedReplica, VirtualClock

# Something that takes a scope which no key of a drill has, so that asking predicts nothing and changes nothing.
ASKED = "/v2/repository/index"
KNOWN, UNKNOWN = 403, 401


class ApiKeys(Protocol):
    """The list of keys, of which a drill changes one holder's and reads no other."""

    def grant(self, holder: str, keys: Sequence[str]) -> None:
        """Let a holder have exactly these keys; none takes it off the list. Replicas follow after a while.

        Raises:
            StepFailed: the list was not changed.
        """
        ...

    def held(self, holder: str) -> int:
        """How many keys of a holder the list has."""
        ...

    def ask(self, key: str) -> Mapping[str, int]:
        """Show a key to each replica itself: `KNOWN`, `UNKNOWN` or another HTTP status by its name, 0 for no answer."""
        ...


def listed(text: str, holder: str) -> list[Any]:
    """The entries of a holder in the text of a list.

    Raises:
        StepFailed: it is no list of keys; the message holds nothing of it.
    """
    return [entry for entry in _entries(text) if entry["name"] == holder]


def rewritten(text: str, holder: str, keys: Sequence[str]) -> str:
    """The text of a list in which a holder has exactly these keys, by their SHA-256. Raises as `listed` does."""
    others = [entry for entry in _entries(text) if entry["name"] != holder]
    own = [{"name": holder, "sha256": hashlib.sha256(key.encode()).hexdigest()} for key in keys]
    return json.dumps({"keys": [*others, *own]}, indent=2) + "\n"


def _entries(text: str) -> list[Any]:
    try:
        entries: list[Any] = json.loads(text)["keys"]
        if all(isinstance(entry["name"], str) for entry in entries):
            return entries
    except (ValueError, KeyError, TypeError):
        pass
    raise StepFailed("the list of API keys is damaged, and nothing of it was changed; see docs/serving.md")


class KeysBehaviour(Protocol):
    """How simulated replicas follow the list; see `memory.Behaviour`."""

    faults_work: bool
    keys_follow_s: float
    keys_forgotten: bool


@dataclass(frozen=True, slots=True)
class _Change:
    at: float
    holder: str
    keys: frozenset[str]


class MemoryKeys:
    """See `ApiKeys`. Each replica follows a change somewhat later than the one before it, the last after `keys_follow_s`."""

    def __init__(self, clock: VirtualClock, behaviour: KeysBehaviour, replicas: Sequence[SimulatedReplica]) -> None:
        self._clock, self._behaviour, self._replicas = clock, behaviour, replicas
        self._changes: list[_Change] = []

    def grant(self, holder: str, keys: Sequence[str]) -> None:
        """At once in the list."""
        if self._behaviour.faults_work:
            self._changes.append(_Change(self._clock.now(), holder, frozenset(keys)))

    def held(self, holder: str) -> int:
        """By the newest change."""
        return next((len(change.keys) for change in reversed(self._changes) if change.holder == holder), 0)

    def ask(self, key: str) -> Mapping[str, int]:
        """No answer from a replica that is away."""
        now = self._clock.now()
        return {
            replica.name: (KNOWN if self._known(number, key, np.array([now]))[0] else UNKNOWN) if replica.ready(now) else 0
            for number, replica in enumerate(self._replicas)
        }

    def known(self, by: npt.NDArray[np.int64], key: str, at: Floats) -> npt.NDArray[np.bool_]:
        """Whether each request's replica, by its number, knew a key at a moment: shape (n,) each. The ingress knows all."""
        known = np.ones(len(at), dtype=np.bool_)
        for number in range(len(self._replicas)):
            chosen = by == number
            known[chosen] = self._known(number, key, at[chosen])
        return known

    def _known(self, replica: int, key: str, at: Floats) -> npt.NDArray[np.bool_]:
        last = replica == len(self._replicas) - 1
        known = np.zeros(len(at), dtype=np.bool_)
        for change in self._changes:
            seen = at >= change.at + self._behaviour.keys_follow_s * (replica + 1) / len(self._replicas)
            has = key in change.keys
            if has or self._behaviour.keys_forgotten or not last:
                known[seen] = has
        return known
