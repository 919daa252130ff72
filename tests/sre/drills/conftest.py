"""Whole drills on the memory target: real runs with real evidence, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sre.drills import run
from sre.drills.base import Case, Context, Drill, Options, read_case
from sre.evidence import sign
from sre.evidence.journal import Journal
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.readings import LoadPlan
from sre.targets.memory import Behaviour, MemoryTarget
from sre.verdict import Verdict

Changes = Mapping[str, Any]


@dataclass
class Watcher:
    """A narrator that remembers, and that changes the system's behaviour once a step has ended."""

    behaviour: Behaviour
    after: Mapping[str, Changes]
    hear: Callable[[str], None]
    drills: list[str] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def drill(self, name: str, sentence: str, target: str) -> None:
        self.drills.append(f"{name} on {target}: {sentence}")

    def step(self, step: StepRecord) -> None:
        self.steps.append(step)
        for field_name, value in self.after.get(step.name, {}).items():
            setattr(self.behaviour, field_name, value)

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.hear(line)

    def change(self, line: str) -> None:
        self.changes.append(line)


@dataclass(frozen=True)
class Ran:
    folder: Path
    record: RunRecord
    target: MemoryTarget
    watcher: Watcher
    signing_key: Path

    @property
    def key(self) -> Ed25519PublicKey:
        """Of whoever signed the evidence."""
        return sign.public_key(sign.public_path(self.signing_key))

    @property
    def drill(self) -> DrillRecord:
        return self.record.drills[0]

    @property
    def text(self) -> str:
        """Everything that was said about it."""
        details = [step.detail for step in self.drill.steps]
        return "\n".join([*details, *self.drill.findings, *(verdict.why for verdict in self.drill.verdicts)])

    def step(self, name: str) -> StepRecord:
        return next(step for step in self.drill.steps if step.name == name)

    def verdict(self, promise: str) -> Verdict:
        return next(verdict for verdict in self.drill.verdicts if verdict.promise == promise)

    def pending(self) -> int:
        """Changes that were not taken back."""
        return len(Ledger(self.folder / LEDGER_NAME).pending())


class RunDrills(Protocol):
    def __call__(
        self,
        *drills: Drill,
        behaviour: Behaviour | None = None,
        after: Mapping[str, Changes] | None = None,
        hear: Callable[[str], None] = lambda _: None,
        options: Options | None = None,
        target: MemoryTarget | None = None,
    ) -> Ran: ...


@pytest.fixture
def run_drills(tmp_path: Path) -> RunDrills:
    def go(
        *drills: Drill,
        behaviour: Behaviour | None = None,
        after: Mapping[str, Changes] | None = None,
        hear: Callable[[str], None] = lambda _: None,
        options: Options | None = None,
        target: MemoryTarget | None = None,
    ) -> Ran:
        target = target or MemoryTarget(behaviour)
        watcher = Watcher(target.behaviour, after or {}, hear)
        finished = run.run(
            drills, target, target, root=tmp_path / "evidence", signing_key=tmp_path / "key.pem", name="test",
            options=options or Options(), narrator=watcher,
        )  # fmt: skip
        return Ran(finished.folder, finished.record, target, watcher, tmp_path / "key.pem")

    return go


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., Context]:
    """A drill under way on a whole system, nothing done yet."""

    def make(drill: str, behaviour: Behaviour | None = None, hear: Callable[[str], None] = lambda _: None) -> Context:
        target = MemoryTarget(behaviour)
        journal = Journal(tmp_path / "journal.jsonl", target.clock)
        ledger = Ledger(tmp_path / LEDGER_NAME)
        return Context(drill, target, target, tmp_path / "drills" / drill, journal, ledger, Options(), hear)

    return make


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(Behaviour(), {}, lambda _: None)


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    """The case of a load of 20 s, or of one that was stopped, with the servers' counters."""

    def make(*, stop_after: float | None = None, **behaviour: Any) -> Case:
        target = MemoryTarget(Behaviour(**behaviour))
        start = target.clock.wall()
        load = target.start_load(LoadPlan(100.0, 20.0, 1), tmp_path)
        if stop_after is None:
            load.wait()
        else:
            target.clock.sleep(stop_after)
            load.stop()
        target.clock.sleep(target.settle_s)
        counts = target.server_counts(start, target.clock.wall())
        facts = {"server_counts": None if counts is None else asdict(counts), "scrape_s": 2.0, "resend_s": target.resend_s}
        return read_case(tmp_path, facts)

    return make
