"""What stands for each promise today: the newest evidence on it, its age, and whether that proves it.

A promise is proven while its newest evidence is signed, says kept, and is fresh. Otherwise it is red; there is nothing between.
Runs that cannot be read, or are not what their signer attested, count as none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sre.errors import CannotRun, EvidenceDamaged
from sre.evidence import attest, bundle, sign
from sre.evidence.schema import DrillRecord, RunRecord
from sre.promises import PROMISES, Freshness, Promise, freshness
from sre.units import show, show_bound
from sre.verdict import Outcome, Verdict, combine


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A promise and the newest evidence on it from one drill.

    Attributes:
        promise: what is promised.
        drill: name of the drill.
        run: id of the newest run of that drill; None, like all that follows, when there is none.
        target: that it ran on.
        at: when that run's drill ended, seconds since the epoch.
        outcome: of the promise in it: its verdict, and the steps that failed.
        verdict: None when the drill reached none.
        kept_at: when a run last ended with the promise kept, seconds since the epoch.
    """

    promise: Promise
    drill: str
    run: str | None = None
    target: str | None = None
    at: float | None = None
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    kept_at: float | None = None

    def freshness(self, now: float) -> Freshness:
        """Whether the newest evidence that it was kept is young enough at `now`, seconds since the epoch."""
        return freshness(self.promise, self.kept_at, now)

    def proven(self, now: float) -> bool:
        """Whether it counts as kept at `now`, seconds since the epoch."""
        return self.outcome is Outcome.KEPT and self.freshness(now) is Freshness.FRESH

    def objective(self, now: float) -> str:
        """`proven`, or `red` and why."""
        if self.outcome is None:
            return "red: never proven"
        if self.outcome is not Outcome.KEPT:
            return f"red: {self.outcome.upper()}"
        return "proven" if self.proven(now) else f"red: {self.freshness(now)}, counts for {age(self.promise.fresh_for_s)}"

    def last(self) -> str:
        """The newest verdict as text."""
        if self.outcome is None:
            return "never"
        return f"{self.outcome.upper()} {self.verdict.line() if self.verdict else 'without a verdict'}"

    def age(self, now: float) -> str:
        """The age of the newest evidence as text; empty when there is none."""
        if self.at is None:
            return ""
        return age(now - self.at) if now >= self.at else "in the future"


def age(seconds: float) -> str:
    """An age as people say it, rounded up: `5 min`, `3.2 h`, `7 d`."""
    for size, name in ((86_400.0, "d"), (3600.0, "h")):
        if seconds >= size:
            return f"{math.ceil(seconds / size * 10) / 10:g} {name}"
    return f"{math.ceil(seconds / 60)} min"


def known_key(path: Path) -> Ed25519PublicKey | None:
    """The public key of whoever signs here with the private key `path`; None before the first run."""
    try:
        return sign.public_key(sign.public_path(path))
    except CannotRun:
        return None


def newest(root: Path, key: Ed25519PublicKey | None) -> dict[str, RunRecord]:
    """The newest signed run of each drill, by the drill's name."""
    found: dict[str, RunRecord] = {}
    for folder, record in records(root):
        names = {drill.name for drill in record.drills}
        if names - found.keys() and signed(folder, record, key):
            found = dict.fromkeys(names, record) | found
    return found


def standings(root: Path, key: Ed25519PublicKey | None) -> list[Standing]:
    """What stands for every promise in each of its drills.

    Args:
        root: folder of all runs.
        key: whose signature counts; None lets nothing count.
    """
    found = {(drill, row.id): Standing(promise=row, drill=drill) for row in PROMISES for drill in row.drills}
    for folder, record in records(root):
        told = {place: new for place, new in _told(record, found).items() if new != found[place]}
        # Signatures are checked only where they matter, for checking reads every file of a run.
        if told and signed(folder, record, key):
            found |= told
    return list(found.values())


def worst(rows: Iterable[Standing], now: float) -> list[Standing]:
    """One row per promise: of its drills the one that least proves it, of several such the newest."""
    chosen: dict[str, Standing] = {}
    for row in rows:
        other = chosen.setdefault(row.promise.id, row)
        if (not row.proven(now), row.at or 0.0) > (not other.proven(now), other.at or 0.0):
            chosen[row.promise.id] = row
    return list(chosen.values())


def promise_table(rows: Iterable[Standing], now: float) -> str:
    """The promises as a Markdown table, ending in a newline; what makes one red is named beside its value."""
    lines = ["| promise | bound | last measured | on | evidence |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        promise, verdict = row.promise, row.verdict
        measured = "never" if verdict is None else show(verdict.measured, verdict.unit, verdict.comparison)
        if row.outcome is not None and not row.proven(now):
            measured += f", {row.objective(now).removeprefix('red: ')}"
        bound = f"{promise.comparison} {show_bound(promise.bound, promise.unit)}"
        evidence = f"`{row.run}`" if row.run else ""
        sentence = promise.sentence.replace("|", r"\|")
        lines.append(f"| {sentence} | {bound} | {measured} | {row.target or ''} | {evidence} |")
    return "\n".join(lines) + "\n"


def _told(record: RunRecord, found: Mapping[tuple[str, str], Standing]) -> dict[tuple[str, str], Standing]:
    """What a run, older than those that made `found`, adds to it."""
    drills = {drill.name: drill for drill in record.drills}
    told = {}
    for place, row in found.items():
        if (drill := drills.get(row.drill)) is None:
            continue
        outcome, verdict = outcome_of(drill, row.promise)
        at = drill.started_wall + drill.ended - drill.started
        new = row if row.run else replace(row, run=record.id, target=record.target, at=at, outcome=outcome, verdict=verdict)
        told[place] = replace(new, kept_at=at) if outcome is Outcome.KEPT and new.kept_at is None else new
    return told


def outcome_of(drill: DrillRecord, promise: Promise) -> tuple[Outcome, Verdict | None]:
    """Of a promise in a drill of a run: its verdict against today's bound, None when there is none, and the steps that failed."""
    failed = [Outcome.ERROR for step in drill.steps if step.result == "failed"]
    for verdict in drill.verdicts:
        # A verdict against another bound is one on a promise that is no longer made.
        if (verdict.promise, verdict.comparison, verdict.bound) == (promise.id, promise.comparison, promise.bound):
            return combine([verdict.outcome, *failed]), verdict
    return combine(failed), None


def records(root: Path) -> Iterator[tuple[Path, RunRecord]]:
    """Every run that can be read, newest first."""
    for folder in bundle.runs(root):
        try:
            yield folder, bundle.load(folder)
        except EvidenceDamaged:
            continue


def signed(folder: Path, record: RunRecord, key: Ed25519PublicKey | None) -> bool:
    """Whether a run is what the owner of the key attested; never without a key."""
    return key is not None and not attest.problems(folder, record, key)
