"""The ledger: what a run changed and how to take it back, on disk before the change, replayed after a crash."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGCONT
from typing import Any

from sre.clock import Clock
from sre.errors import CannotRun, EvidenceDamaged, SreError, StepFailed, UndoIncomplete
from sre.faults.base import Undo
from sre.faults.database import trouble
from sre.targets.base import DatabaseCluster, Target

LEDGER_NAME = "ledger.jsonl"
READY_WITHIN_S = 90.0
# It boots, its agent reports, and its network is set up.
NODE_WITHIN_S = 180.0
# A member that starts from nothing copies the primary's data first.
WHOLE_WITHIN_S = 120.0
# Velero deletes no backup that is being made, so it is asked again.
FORGOTTEN_WITHIN_S = 300.0
ASK_AGAIN_S = 15.0


def _resume(target: Target, arguments: Mapping[str, str]) -> None:
    names = arguments["replica"].split(",")
    for current in target.replicas():
        # Without a process there is nothing frozen; the platform brings the replica back by itself.
        if current.name in names and current.identity:
            target.resume(current.name)
    for name in names:
        _await_ready(target, {"replica": name})


def _await_ready(target: Target, arguments: Mapping[str, str]) -> None:
    name = arguments["replica"]

    def waiting() -> str:
        current = next((item for item in target.replicas() if item.name == name), None)
        return "" if current is not None and current.ready else str(current)

    _wait(target.clock, waiting, f"{name} was not ready", within_s=READY_WITHIN_S, every_s=0.2)


def _wait(clock: Clock, waiting: Callable[[], str], what: str, *, within_s: float, every_s: float) -> None:
    deadline = clock.now() + within_s
    while seen := waiting():
        if clock.now() > deadline:
            raise UndoIncomplete(f"{what} within {within_s:.0f} s (last seen: {seen})")
        clock.sleep(every_s)


def _await_replicas(target: Target, _: Mapping[str, str]) -> None:
    for replica in target.replicas():
        _await_ready(target, {"replica": replica.name})


def _bring_node_back(target: Target, arguments: Mapping[str, str]) -> None:
    name = arguments["node"]
    target.nodes.bring_back(name, arguments["how"])

    def waiting() -> str:
        node = next((one for one in target.nodes.all() if one.name == name), None)
        return "" if node is not None and node.ready and node.open else str(node)

    _wait(target.clock, waiting, f"{name} was not ready", within_s=NODE_WITHIN_S, every_s=1.0)
    _await_replicas(target, arguments)


def _await_database(target: Target, _: Mapping[str, str]) -> None:
    what = "the database cluster was not whole"
    _wait(target.clock, lambda: trouble(target.database), what, within_s=WHOLE_WITHIN_S, every_s=0.5)


def _repaired(repair: Callable[[DatabaseCluster, str], None]) -> Callable[[Target, Mapping[str, str]], None]:
    def undo(target: Target, arguments: Mapping[str, str]) -> None:
        deadline = target.clock.now() + READY_WITHIN_S
        for member in arguments["members"].split(","):
            while True:
                try:
                    repair(target.database, member)
                    break
                except StepFailed:
                    # Its processes are being started again just now.
                    if target.clock.now() > deadline:
                        raise
                target.clock.sleep(0.5)
        _await_database(target, arguments)

    return undo


def _remove_restored(_: Target, arguments: Mapping[str, str]) -> None:
    from sre.targets.local.target import down  # noqa: PLC0415 - only local targets restore, and most ledgers never do

    place = Path(arguments["place"])
    if place.exists():
        down(place, purge=True)
    if place.exists():
        raise UndoIncomplete(f"{place} cannot be deleted whole; delete what is left by hand")


def _resume_service(target: Target, arguments: Mapping[str, str]) -> None:
    from sre.targets.local.target import LocalTarget  # noqa: PLC0415 - as in _remove_restored

    if isinstance(target, LocalTarget):
        target.signal_service(arguments["service"], SIGCONT)


def _forget_volumes(target: Target, arguments: Mapping[str, str]) -> None:
    name, namespaces = arguments["name"], arguments["namespaces"].split(",")
    clock = target.clock
    deadline, asked = clock.now() + FORGOTTEN_WITHIN_S, -math.inf
    while True:
        try:
            left = target.volumes.left(name, namespaces)
            if not left:
                return
            if clock.now() - asked >= ASK_AGAIN_S:
                asked = clock.now()
                target.volumes.forget(name, namespaces)
        except CannotRun as error:
            left = str(error)
        if clock.now() > deadline:
            raise UndoIncomplete(f"not gone within {FORGOTTEN_WITHIN_S:.0f} s: {left}")
        clock.sleep(0.5)


def _forget_probes(target: Target, _: Mapping[str, str]) -> None:
    target.network.end()
    _wait(target.clock, target.network.left, "the probes were not gone", within_s=READY_WITHIN_S, every_s=1.0)


def _forget_keys(target: Target, arguments: Mapping[str, str]) -> None:
    target.keys.grant(arguments["holder"], ())


def _demote(target: Target, arguments: Mapping[str, str]) -> None:
    target.router.demote(arguments["version"])


def _end_canary(target: Target, _: Mapping[str, str]) -> None:
    target.router.end()


ACTIONS: dict[str, Callable[[Target, Mapping[str, str]], None]] = {
    "resume": _resume,
    "await-ready": _await_ready,
    "await-replicas": _await_replicas,
    "bring-node-back": _bring_node_back,
    "await-database": _await_database,
    "thaw": _repaired(lambda database, member: database.thaw(member)),
    "bring-back": _repaired(lambda database, member: database.bring_back(member)),
    "mend": _repaired(lambda database, _: database.mend()),
    "allow-writes": _repaired(lambda database, member: database.allow_writes(member)),
    "catch-up": _repaired(lambda database, member: database.catch_up(member)),
    "remove-restored": _remove_restored,
    "resume-service": _resume_service,
    "forget-volumes": _forget_volumes,
    "forget-probes": _forget_probes,
    "forget-keys": _forget_keys,
    "demote": _demote,
    "end-canary": _end_canary,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One change: its number, how it is undone, and whether that has happened or is no longer wanted."""

    number: int
    undo: Undo
    undone: bool


class Ledger:
    """Append-only file of changes and of their undoing.

    Args:
        path: of the file; made with the first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self, undo: Undo) -> None:
        """Put an undo on disk; the change may be made once this returns."""
        self._append({"entry": len(self.entries()) + 1, "event": "planned", **asdict(undo)})

    def entries(self) -> list[Entry]:
        """All changes, oldest first. A last line cut short by a crash was never acted upon and is left out.

        Raises:
            EvidenceDamaged: a line before the last is not readable.
        """
        planned: dict[int, Undo] = {}
        undone: set[int] = set()
        try:
            for line in map(json.loads, self._whole().splitlines()):
                if line["event"] == "planned":
                    planned[line["entry"]] = Undo(line["action"], line["arguments"], line["sentence"])
                elif line["event"] in {"undone", "kept"}:
                    undone.add(line["entry"])
        except (ValueError, KeyError, TypeError) as error:
            raise EvidenceDamaged(f"{self.path} holds a line that is no entry ({error!r}); undo by hand what it names") from error
        return [Entry(number, undo, number in undone) for number, undo in planned.items()]

    def pending(self) -> list[Entry]:
        """Changes that are not undone, newest first: the order in which they must be taken back."""
        return [entry for entry in reversed(self.entries()) if not entry.undone]

    def keep(self, action: str) -> None:
        """Let stay what `action` would undo: it is no fault but what was wanted, and is wanted for good now."""
        for entry in self.pending():
            if entry.undo.action == action:
                self._append({"entry": entry.number, "event": "kept"})

    def replay(self, target: Target) -> list[str]:
        """Take back everything that is still changed. Every undo is idempotent, so a second replay does no harm.

        Returns:
            One sentence per change taken back.

        Raises:
            UndoIncomplete: at least one could not be; the others were tried all the same.
        """
        done, failed = [], []
        for entry in self.pending():
            try:
                ACTIONS[entry.undo.action](target, entry.undo.arguments)
            except Exception as error:  # noqa: BLE001 - whatever went wrong, the others must still be taken back
                failed.append(f"{entry.undo.sentence}: {error if isinstance(error, SreError) else repr(error)}")
                continue
            self._append({"entry": entry.number, "event": "undone"})
            done.append(entry.undo.sentence)
        if failed:
            raise UndoIncomplete(f"still changed: {'; '.join(failed)}")
        return done

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            # A line cut short by a crash would swallow this one.
            file.truncate(len(self._whole()))
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _whole(self) -> bytes:
        if not self.path.exists():
            return b""
        whole, newline, _ = self.path.read_bytes().rpartition(b"\n")
        return whole + newline
