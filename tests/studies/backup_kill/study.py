"""One kill, and what must hold after it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sre.dr.sets import Place
from sre.errors import SreError, StepFailed
from tests.studies.backup_kill.moments import Kill, Seen, look, phase
from tests.studies.backup_kill.system import System

TRIES = 6
SETS = 4  # where more are there, the night's pruning is due: every check reads all that is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one kill came to.

    Attributes:
        seed, victim, kind: as planned.
        after_s: when, s from the command's begin.
        phase: that the backup had reached; empty when it always ended before the moment.
        hit: names of the processes that were killed.
        status: the command's exit status; negative is a signal.
        counted: what `sre backup list` says of the set that was being made, by place; nothing where it shows none.
        earlier: how many sets were there before.
        restored: the set that was restored, if one was.
        differences: a sentence for each thing that is not as promised.
    """

    seed: int
    victim: str
    kind: str
    after_s: float = 0.0
    phase: str = ""
    hit: list[str] = field(default_factory=list)
    status: int = 0
    counted: dict[str, str] = field(default_factory=dict)
    earlier: int = 0
    restored: str = ""
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A kill that was carried out: what lay in the places before the backup, and when its command had ended."""

    after_s: float
    phase: str
    hit: list[str]
    status: int
    before: Seen
    after: Seen


class Study:
    """Kills on one system.

    Args:
        system: prepared, and with a whole set.
        lengths: how long a whole backup takes, s, by kind; renewed by every one that is made.
        say: gets progress.
    """

    def __init__(self, system: System, lengths: dict[str, float], say: Callable[[str], None]) -> None:
        self._system = system
        self._lengths = lengths
        self._say = say

    def run(self, kill: Kill, *, thorough: bool) -> Result:
        """Kill one backup and hold what is left to the promise.

        Args:
            kill: whom, and when.
            thorough: check every earlier set in full, and restore the newest.

        Raises:
            SreError: the study cannot go on: two backups after the kill failed.
        """
        self._system.write(kill.seed)
        struck = self._strike(kill)
        if struck is None:
            return Result(seed=kill.seed, victim=kill.victim, kind=kill.kind)
        wrong = self._next(kill)  # at once: nobody waits for what a kill left running, or cleans up
        before, after = struck.before, struck.after
        shown, complaints = self._system.shown()
        wrong += complaints + counted_wrongly(shown, before, after)
        for where in after.good:
            # What is good although its making was hit must be whole.
            wrong += self._system.wrong(where, sorted(before.good[where] | after.good[where]), thorough=thorough)
        place: Place = "off_site" if kill.seed // 10 % 2 else "store"
        newest = max(before.good[place])
        if thorough:
            wrong += self._system.restored(newest, place, self._say)
        if len(before.good["store"]) > SETS:
            self._system.prune()
        made = after.sets["store"] - before.sets["store"]
        return Result(
            seed=kill.seed, victim=kill.victim, kind=kill.kind, after_s=round(struck.after_s, 2), phase=struck.phase,
            hit=struck.hit, status=struck.status, earlier=len(before.good["store"]), restored=newest if thorough else "",
            counted={where: state for (where, name), state in shown.items() if name in made}, differences=wrong,
        )  # fmt: skip

    def _strike(self, kill: Kill) -> Struck | None:
        """None when the command had ended before every moment that was drawn."""
        home = self._system.layout.home
        for share, _ in zip(kill.shares(), range(TRIES), strict=False):
            before, command, began = look(home), self._system.begin("create", "--kind", kill.kind), time.monotonic()
            try:
                command.wait(share * self._lengths[kill.kind])
            except subprocess.TimeoutExpired:
                os.kill(command.pid, signal.SIGSTOP)
                reached = phase(before, look(home), command.pid)
                after_s, hit = time.monotonic() - began, self._system.strike(command, kill.victim)
                status = self._system.end(command)
                return Struck(after_s=after_s, phase=reached, hit=hit, status=status, before=before, after=look(home))
            if self._system.end(command):
                raise StepFailed(f"a backup that was not killed failed: {self._system.words()}")
            self._lengths[kill.kind] = time.monotonic() - began
        return None

    def _next(self, kill: Kill) -> list[str]:
        """The next backup, which must succeed; where it does not, one more tells whether time heals it."""
        try:
            self._lengths[kill.kind] = self._system.create(kill.kind)
        except SreError as error:
            self._system.create(kill.kind)
            return [f"the next backup failed, the one after it did not: {error}"]
        return []


def counted_wrongly(shown: Mapping[tuple[str, str], str], before: Seen, after: Seen) -> list[str]:
    """A sentence for each set that the listing shows as good and no check had found good when its command ended, or the reverse.

    Args:
        shown: state by place and id.
        before: what lay there when the command began.
        after: and when it had ended.
    """
    wrong = []
    for where, names in after.sets.items():
        for name in names:
            state = shown.get((where, name), "not there")
            if (state == "good") != (name in after.good[where] | before.good[where]):
                wrong.append(f"{where}: `sre backup list` shows {name} as {state}")
    return wrong
