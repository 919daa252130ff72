"""The lifecycle that every drill goes through, and what a drill has to say for itself.

preflight        the system is whole and everyone who must watch it can
steady           load flows and is answered as it should be, before anything is touched
inject           the fault, its undo on disk beforehand
prove_injected   someone who did not inject the fault sees it
recover          until the promise is kept, or until watching longer makes no sense
undo             nothing that the drill changed is still changed
judge            verdicts from the raw files alone; `sre verify` runs the same function again
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from sre.chaos import runner
from sre.drills.history_files import History, read_history
from sre.errors import CannotRun, FaultWithoutEffect, StepFailed, TargetUnavailable
from sre.evidence.journal import Journal
from sre.faults.ledger import Ledger
from sre.judges.loss import Reach, reach
from sre.measure.samples import HEADER_NAME, Recording, Samples, read
from sre.readings import LoadPlan, ServerCounts
from sre.targets.base import Capability, Load, Observers, Target
from sre.verdict import Verdict

STEPS = ("preflight", "steady", "inject", "prove_injected", "recover", "undo", "judge")
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
PREFLIGHT_WITHIN_S = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may change about a drill; None means the drill's own choice.

    Attributes:
        seconds: length of the measured load, s.
        rate: arrivals per second.
        seed: of the arrival schedule.
        replica: which replica a fault hits.
        place: which copy of the backups is restored.
    """

    seconds: float | None = None
    rate: float | None = None
    seed: int = 1
    replica: str = "serving-2"
    place: Literal["store", "off_site"] = "store"


@dataclass(slots=True)
class Context:
    """One drill under way.

    Attributes:
        target, observers: the system, and those who watch it.
        folder: for raw files.
        journal: gets every fact as it becomes known.
        ledger: gets every undo before its fault.
        options: from the command line.
        say: narration, one short line at a time.
        facts: what the judge will use beyond the samples.
        load: the running load, once there is one.
    """

    drill: str
    target: Target
    observers: Observers
    folder: Path
    journal: Journal
    ledger: Ledger
    options: Options
    say: Callable[[str], None]
    facts: dict[str, Any] = field(default_factory=dict)
    load: Load | None = None

    def note(self, **facts: Any) -> None:
        """Put facts on disk; the judge reads them from there."""
        for name, value in facts.items():
            self.journal.write("fact", drill=self.drill, name=name, value=value)
            self.facts[name] = value

    def ran(self, command: Sequence[str]) -> None:
        """Put a command on disk before it is run."""
        self.journal.write("command", drill=self.drill, command=list(command))

    def until(self, look: Callable[[], tuple[T | None, str]], *, within: float, what: str, every: float = 0.2) -> T:
        """Look again and again until there is something.

        Args:
            look: returns the thing or None, and what was seen.
            within: deadline, s.
            what: that is waited for.
            every: pause between looks, s.

        Raises:
            StepFailed: the deadline passed; the message holds what was last seen.
        """
        clock = self.target.clock
        deadline = clock.now() + within
        while True:
            found, seen = look()
            if found is not None:
                return found
            left = deadline - clock.now()
            if left <= 0:
                raise StepFailed(f"{what} not within {within:.0f} s (last seen: {seen})")
            self.say(f"waiting for {what}: {seen} ({left:.0f} s left)")
            clock.sleep(every)

    def effect(self, look: Callable[[], tuple[T | None, str]], *, within: float, what: str, every: float = 0.2) -> T:
        """What proves a fault, looked for as `until` does.

        Raises:
            FaultWithoutEffect: it was not seen until the deadline.
        """
        try:
            return self.until(look, within=within, what=what, every=every)
        except StepFailed as error:
            raise FaultWithoutEffect(f"the fault had no effect: {error}") from error


@dataclass(frozen=True, slots=True)
class Case:
    """All that a judge may use, read back from the files of a run.

    Attributes:
        facts: by name, as the drill noted them.
        recording, samples: of the load; None when the drill sends none.
        history: of the writers; None when there were none.
    """

    facts: Mapping[str, Any]
    recording: Recording | None
    samples: Samples | None
    history: History | None = None

    def load(self) -> tuple[Recording, Samples]:
        """Recording and samples of a drill that needs both.

        Raises:
            StepFailed: the drill left none.
        """
        if self.recording is None or self.samples is None:
            raise StepFailed("there are no samples: the load never finished its recording")
        return self.recording, self.samples

    def reach(self) -> Reach | None:
        """What came back of the writers' history when everything was lost at fact `lost_at`; None when nobody looked."""
        if self.history is None or self.history.rows is None or "lost_at" not in self.facts:
            return None
        return reach(self.history.attempts, self.history.rows, self.facts["lost_at"])

    def server_counts(self) -> ServerCounts | None:
        """What the servers counted meanwhile, None when Prometheus could not say."""
        document = self.facts.get("server_counts")
        return None if document is None else ServerCounts(**{**document, "queries": tuple(document["queries"])})


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts of a drill, and sentences about what was odd."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[str, ...] = ()


def read_case(folder: Path, facts: Mapping[str, Any]) -> Case:
    """The case of a drill's folder.

    Raises:
        EvidenceDamaged: samples or a history are there and cannot be read.
    """
    history = read_history(folder)
    if not (folder / HEADER_NAME).exists():
        return Case(facts, None, None, history)
    recording, samples = read(folder)
    return Case(facts, recording, samples, history)


class Drill(ABC):
    """One drill. The steps return what they saw, in one line, and raise an SreError when they cannot go on."""

    name: ClassVar[str]
    summary: ClassVar[str]
    promises: ClassVar[tuple[str, ...]]
    needs: ClassVar[frozenset[Capability]]
    experiment: ClassVar[str | None] = None
    # API key that users show; that of all drills when None.
    key: str | None = None

    def plan(self, options: Options) -> LoadPlan | None:
        """The load that runs meanwhile; None for drills that need none."""
        del options
        return None

    def preflight(self, context: Context) -> str:
        """Capabilities, every replica ready, a user is served, Prometheus answers."""
        self.require_capabilities(context.target)
        replicas = context.until(lambda: _all_ready(context), within=PREFLIGHT_WITHIN_S, what="every replica to be ready")
        status, seen = context.observers.user_probe()
        if status != 200:
            raise TargetUnavailable(f"a user's request was answered {status or 'not at all'} ({seen}); see `sre status`")
        context.until(lambda: _counters_seen(context), within=PREFLIGHT_WITHIN_S, what="the replicas' counters in Prometheus")
        return f"{replicas} of {replicas} replicas ready, a user is served, Prometheus answers"

    def require_capabilities(self, target: Target) -> None:
        """Raise CannotRun when the target lacks what this drill needs."""
        if lacking := self.needs - target.capabilities:
            raise CannotRun(f"target {target.name} cannot do {', '.join(sorted(lacking))}, which {self.name} needs")

    def steady(self, context: Context) -> str:
        """Begin the load, and see that it is answered."""
        plan = self.plan(context.options)
        if plan is None:
            return "no load needed"
        context.note(load_from=context.target.clock.wall(), plan=asdict(plan))
        context.load = context.observers.start_load(plan, context.folder, self.key)
        context.target.clock.sleep(self.steady_seconds(context.options))
        if not context.load.running() and self.steady_seconds(context.options) < plan.seconds:
            raise StepFailed(f"the load ended by itself after {context.load.progress()}")
        return f"{plan.rate:,.0f}/s planned   {context.load.progress()}"

    def steady_seconds(self, options: Options) -> float:
        """How long the load flows before the fault, s."""
        del options
        return 8.0

    def inject(self, context: Context) -> str:
        """Run the drill's experiment, when it has one."""
        if self.experiment is None:
            return "no fault: the load is the test"
        injection = runner.run(
            EXPERIMENTS / self.experiment, context.target, context.ledger, context.folder,
            self.variables(context), ran=context.ran,
        )  # fmt: skip
        context.note(fault=injection.fault, fault_at=injection.at)
        return f"{injection.fault}   undo: {injection.undo}"

    def variables(self, context: Context) -> dict[str, str]:
        """Values for the experiment's configuration."""
        return {"replica": context.options.replica}

    def prove_injected(self, context: Context) -> str:
        """See the fault from outside."""
        del context
        return "nothing to prove"

    @abstractmethod
    def recover(self, context: Context) -> str:
        """Watch until the promise is kept or is beyond hope."""

    @abstractmethod
    def judge(self, case: Case) -> Judgement:
        """Verdicts: arithmetic on the case, nothing else."""


def _all_ready(context: Context) -> tuple[int | None, str]:
    replicas = context.target.replicas()
    waiting = [replica.name for replica in replicas if not replica.ready]
    if not replicas:
        return None, "no replica at all"
    return (None, f"{', '.join(waiting)} not ready") if waiting else (len(replicas), "")


def _counters_seen(context: Context) -> tuple[bool | None, str]:
    # A system that has just begun is not scraped yet, and without a scrape before the load its first requests would not count.
    now = context.target.clock.wall()
    counts = context.observers.server_counts(now - context.observers.settle_s, now)
    return (None, "no counter of a replica; see `sre status`") if counts is None else (True, "")
