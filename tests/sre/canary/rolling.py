"""Rollouts on the memory target, in its own time, whose counters a Prometheus over real sockets tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sre.canary import session
from sre.canary.approval import Answer, Channel, CommandLine, Question
from sre.canary.burn import PRODUCTION
from sre.canary.plan import Plan
from sre.canary.record import Record
from sre.canary.rollout import Around
from sre.canary.session import Finished, Place
from sre.canary.source import Source
from sre.canary.view import Snapshot
from sre.targets.memory import Behaviour, MemoryTarget
from tests.sre.canary.simulated import PLAN, Prometheus


@dataclass
class Shown:
    """A view that keeps what it was shown, and lets a test do something at each look."""

    snapshots: list[Snapshot] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    each: Callable[[Snapshot], None] = lambda _: None

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        self.each(snapshot)

    def change(self, line: str) -> None:
        self.changes.append(line)


class Says:
    """Somebody who answers every question the same way after having been asked so many times; never, if None."""

    def __init__(self, *, yes: bool, after: int | None = 2) -> None:
        self._yes, self._after = yes, after
        self._asked = 0
        self.questions: list[Question] = []

    def ask(self, question: Question) -> None:
        self.questions.append(question)
        self._asked = 0

    def answer(self) -> Answer | None:
        self._asked += 1
        if self._after is None or self._asked <= self._after:
            return None
        return Answer(self._yes, "somebody", "asked in a test")


class Stage:
    """A memory target, its Prometheus, and a place for evidence."""

    def __init__(self, folder: Path, prometheus: Prometheus, target: MemoryTarget) -> None:
        self.target, self.prometheus = target, prometheus
        self.view = Shown()
        self.place = Place(folder / "evidence", folder / "key.pem", {"commit": "abc"})
        self.plan_file = folder / "plan.yaml"
        self.plan_file.write_text(PLAN)
        self.channels: Sequence[Channel] = ()
        self.changed: dict[str, Any] = {}

    def around(self, record: Record, plan: Plan, _: Path) -> Around:
        made = Around(
            target=self.target, arms=self.source(plan), production=self.source(plan, (PRODUCTION,)), view=self.view,
            channels=(CommandLine(record.folder), *self.channels), courier=None, policy=None, foresee=tuple, answer_within_s=30.0,
        )  # fmt: skip
        return replace(made, **self.changed)

    def source(self, plan: Plan, tracks: tuple[str, ...] = ("canary", "control")) -> Source:
        return Source(plan, self.prometheus.url, clock=self.target.clock, tracks=tracks)

    def begin(self, version: str = "2") -> Finished:
        return session.begin(self.plan_file, version, self.target, self.around, self.place)

    def edit(self, old: str, new: str) -> None:
        text = self.plan_file.read_text()
        assert old in text
        self.plan_file.write_text(text.replace(old, new))

    @property
    def untouched(self) -> bool:
        """Whether nothing is left of a canary and the old version is in production."""
        if self.target.router.split() is not None:
            return False
        self.target.router.begin("1")
        split = self.target.router.split()
        self.target.router.end()
        return split is not None and split.production == "1"


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    target = MemoryTarget(Behaviour(canary_startup_s=4.0))
    prometheus = Prometheus(target)
    try:
        yield Stage(folder, prometheus, target)
    finally:
        prometheus.close()
