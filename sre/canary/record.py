"""The record of a rollout: a run's folder, in which every line is on disk before it is acted upon.

    evidence/<id>/
        run.json  journal.jsonl  ledger.jsonl  ...     as of every run
        drills/canary/plan.yaml                        as it was read
        drills/canary/looks.jsonl.gz                   raw samples: one member, one line per look; the journal holds where it is
        drills/canary/approvals/                       answers from the command line

After a crash the journal is what a rollout is continued from. What follows from the looks is never read back but made again.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sre.canary import plan as plans
from sre.canary import reading
from sre.canary.burn import Burned
from sre.canary.judge import Judged
from sre.canary.plan import Plan
from sre.canary.reading import Look
from sre.errors import EvidenceDamaged, UsageError
from sre.evidence import bundle, codec, journal
from sre.evidence.bundle import Bundle
from sre.evidence.schema import StepRecord
from sre.faults.ledger import LEDGER_NAME, Ledger

CANARY = "canary"  # the drill's name in the run's record
LOOKS, PLAN = "looks.jsonl.gz", "plan.yaml"


class Record:
    """Writes.

    Args:
        evidence: folder of the run.
    """

    def __init__(self, evidence: Bundle) -> None:
        self.evidence = evidence
        self.folder = evidence.drill_folder(CANARY)
        self.ledger = Ledger(evidence.folder / LEDGER_NAME)
        self._found: set[str] = set()

    def trim(self) -> None:
        """Take away what a crash left of samples that no line of the journal names."""
        named = [event["raw"] for event in journal.read(self.evidence.journal.path) if "raw" in event]
        if (self.folder / LOOKS).exists():
            os.truncate(self.folder / LOOKS, named[-1]["start"] + named[-1]["length"] if named else 0)

    def write(self, event: str, /, **fields: Any) -> None:
        """One event."""
        self.evidence.journal.write(event, **fields)

    def step(self, name: str, state: str, detail: str = "") -> None:
        """A step `began`, is `ok` or `failed`."""
        self.write("step", drill=CANARY, name=name, state=state, detail=detail)

    def finding(self, sentence: str) -> None:
        """Something odd; the same sentence is written once."""
        if sentence not in self._found:
            self._found.add(sentence)
            self.write("finding", drill=CANARY, sentence=sentence)

    def raw(self, look: Look) -> dict[str, Any]:
        """Put the samples of a look on disk; where they are."""
        member = gzip.compress(reading.dump(look).encode() + b"\n", mtime=0)
        with (self.folder / LOOKS).open("ab") as file:
            start = file.tell()
            file.write(member)
            file.flush()
            os.fsync(file.fileno())
        return {"start": start, "length": len(member), "sha256": hashlib.sha256(member).hexdigest()}

    def look(self, look: Look, judged: Judged, extended_s: float) -> None:
        """A look with a control, and what it came to."""
        self.write("look", raw=self.raw(look), extended_s=extended_s, **verdict(judged))

    def burn(self, look: Look, burned: Burned) -> None:
        """A look after the promotion, and what it came to."""
        self.write("burn", raw=self.raw(look), extended_s=0.0, **codec.plain(burned))


def verdict(judged: Judged) -> dict[str, Any]:
    """What of a judged look is on record, and must be the same in a replay."""
    fields = {"interval": judged.interval, "standing": judged.standing, "action": judged.action, "why": judged.why}
    found: dict[str, Any] = codec.plain(fields)
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """A look as it is on record: its samples, for how long the stage was extended, and the whole journal line."""

    look: Look
    extended_s: float
    line: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the journal tells of a rollout.

    Attributes:
        run: id.
        plan: by which.
        version: of the canary; `production`: of what it would replace, empty before it was known.
        beside: folder where the plan was found.
        handle: of the target; `process`: of the rollout that wrote last.
        began: seconds since the epoch.
        counted_from: seconds since the epoch; None before the first weights.
        watched_from: the same for the watch after a promotion.
        looks: with a control, in order; `burns`: after the promotion.
        events: all lines of the journal.
    """

    run: str
    plan: Plan
    version: str
    production: str
    beside: Path
    handle: str | None
    process: str
    began: float
    counted_from: float | None
    watched_from: float | None
    looks: tuple[Told, ...]
    burns: tuple[Told, ...]
    events: Sequence[dict[str, Any]] = field(repr=False)

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """The events of a kind that have these fields, in order."""
        wanted = {"event": kind, **fields}
        return [event for event in self.events if wanted.items() <= event.items()]

    def done(self, step: str) -> bool:
        """Whether a step was finished well."""
        return bool(self.of("step", name=step, state="ok"))

    def decision(self) -> dict[str, Any] | None:
        """How the rollout is to end, once that is decided."""
        return next(iter(self.of("decision")), None)

    def question(self) -> dict[str, Any] | None:
        """The question that is open, if one is."""
        last = [event for event in self.events if event["event"] in {"question", "answer", "withdrawn", "decision"}][-1:]
        return last[0] if last and last[0]["event"] == "question" else None


def read(folder: Path) -> Course:
    """What the folder of a rollout tells.

    Raises:
        UsageError: the run is no rollout.
        EvidenceDamaged: journal, plan or samples were altered.
    """
    events = journal.read(folder / bundle.JOURNAL)
    begun = next((event for event in events if event["event"] == CANARY), None)
    if begun is None:
        raise UsageError(f"{folder.name} is no rollout of a canary; name one whose id ends in -{CANARY}")
    place = folder / "drills" / CANARY
    first = {kind: next((event for event in events if event["event"] == kind), {}) for kind in ("arms", "counting", "watching")}
    return Course(
        run=folder.name,
        plan=_plan(place, begun),
        version=begun["version"],
        production=first["arms"].get("production", ""),
        beside=Path(begun["beside"]),
        handle=events[0]["handle"],
        process=[event["process"] for event in events if "process" in event][-1],
        began=begun["began"],
        counted_from=first["counting"].get("start"),
        watched_from=first["watching"].get("start"),
        looks=tuple(_told(place, event) for event in events if event["event"] == "look"),
        burns=tuple(_told(place, event) for event in events if event["event"] == "burn"),
        events=events,
    )


def steps(events: Sequence[dict[str, Any]]) -> tuple[StepRecord, ...]:
    """The finished steps, as the run's record holds them. A step that a crash cut short took until the rollout went on."""
    began: dict[str, float] = {}
    found = []
    for event in (event for event in events if event["event"] == "step"):
        if event["state"] == "began":
            began.setdefault(event["name"], event["t"])
        else:
            found.append(StepRecord(name=event["name"], seconds=event["t"] - began.pop(event["name"], event["t"]),
                                    result=event["state"], detail=event["detail"]))  # fmt: skip
    return tuple(found)


def open_raw(folder: Path, raw: dict[str, Any]) -> Look:
    """The samples of a look.

    Args:
        folder: of the rollout's own files.
        raw: where they are, as the journal says.

    Raises:
        EvidenceDamaged: they are not there, or were altered.
    """
    try:
        with (folder / LOOKS).open("rb") as file:
            member = _member(file, raw)
        return reading.load(gzip.decompress(member).decode())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise EvidenceDamaged(f"{LOOKS} cannot be read ({error}); restore it from a copy of the run") from error


def _member(file: BinaryIO, raw: dict[str, Any]) -> bytes:
    file.seek(raw["start"])
    member = file.read(raw["length"])
    if hashlib.sha256(member).hexdigest() != raw["sha256"]:
        raise EvidenceDamaged(f"{LOOKS} at byte {raw['start']} is not what the journal says; restore it from a copy of the run")
    return member


def _told(folder: Path, event: dict[str, Any]) -> Told:
    return Told(open_raw(folder, event["raw"]), event["extended_s"], event)


def _plan(folder: Path, begun: dict[str, Any]) -> Plan:
    try:
        text = (folder / PLAN).read_bytes()
    except OSError as error:
        raise EvidenceDamaged(f"{PLAN} of the run cannot be read ({error.strerror}); restore it from a copy") from error
    if hashlib.sha256(text).hexdigest() != begun["plan_sha256"]:
        raise EvidenceDamaged(f"{PLAN} is not the plan that the rollout began with; restore it from a copy of the run")
    return plans.parse(text.decode(), PLAN)
