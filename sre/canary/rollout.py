"""A rollout: 10 %, 50 %, 100 %, each step on disk before it is taken, and everything taken back unless all ends well.

What was begun is undone by the same ledger as after a crash: `sre undo` and `sre canary abort` do what a rollback does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sre.canary.approval import Channel
from sre.canary.burn import Aftermath, limits
from sre.canary.judge import Judge, Judged
from sre.canary.plan import Plan, Stage
from sre.canary.questions import APPROVAL, DEADLINE, Questions
from sre.canary.reading import Look
from sre.canary.record import Course, Record
from sre.canary.view import Snapshot, View, duration, percent
from sre.errors import CannotRun, ExitCode, SreError, StepFailed, UndoIncomplete
from sre.faults.base import Undo
from sre.judges.canary.decision import Action
from sre.judges.canary.statement import statement
from sre.notify.slack import Courier
from sre.targets.base import Target
from sre.verdict import Outcome

POLL_S = 0.2
LAST_MESSAGES_WITHIN_S = 30.0
END_CANARY, DEMOTE = "end-canary", "demote"
_ENDED = {
    Outcome.KEPT: "promoted",
    Outcome.BROKEN: "rolled back",
    Outcome.INCONCLUSIVE: "held and taken back",
    Outcome.ERROR: "taken back",
}


class Source(Protocol):
    """Who reads the counters; see `source.Source`."""

    def look(self, since: float, stage: int, at: float | None = None) -> Look:
        """The raw samples from `since` to now. Whatever goes wrong is in the look; nothing is raised."""
        ...


@dataclass(frozen=True, slots=True)
class Permission:
    """What an error-budget policy says: whether a rollout may begin, and why."""

    granted: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a rollout works with.

    Attributes:
        target: the system; its router splits the traffic.
        arms, production: who reads the counters of canary and control, and of the replicas in production.
        view: who shows how it goes.
        channels: ways to ask people.
        courier: carries messages; None without.
        policy: asked before anything changes and once more before a promotion is final; None without.
        foresee: how long each stage will take at today's traffic, in sentences; raises UsageError for a plan that cannot come to
            a decision, and CannotRun when today's traffic is not known.
        answer_within_s: after which no answer is taken for a no.
    """

    target: Target
    arms: Source
    production: Source
    view: View
    channels: tuple[Channel, ...]
    courier: Courier | None
    policy: Callable[[], Permission] | None
    foresee: Callable[[], Sequence[str]]
    answer_within_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a rollout ended."""

    outcome: Outcome
    exit_code: ExitCode
    why: str


class _Stop(Exception):
    """A rollout ends without a promotion."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


class Rollout:
    """One rollout.

    Args:
        plan: by which.
        version: of the registered model, for the canary.
        around: what it works with.
        record: where everything is written.
        course: what was written before, when a rollout goes on after a crash.
    """

    def __init__(self, plan: Plan, version: str, around: Around, record: Record, course: Course | None = None) -> None:
        self._plan, self._version, self._around, self._record, self._course = plan, version, around, record, course
        self._clock = around.target.clock
        self._router = around.target.router
        self._production = course.production if course else ""
        self._began = course.began if course else self._clock.wall()
        self._judge: Judge | None = None
        self._judged: list[Judged] = []
        self._weights = (0.0, 0.0)
        self._questions = Questions(record, around.channels, around.view.change, course)
        self._held_since = 0.0
        self._due = 0.0

    def conduct(self) -> Ended:
        """Roll out. When this returns nothing is left changed but a promotion, or the exit code says that something is."""
        decided = self._course.decision() if self._course else None
        if decided is not None:
            return self._close(Ended(Outcome(decided["outcome"]), ExitCode(decided["exit_code"]), decided["why"]))
        try:
            self._recall()
            self._carry_out()
            why = f"version {self._version} is in production in place of version {self._production}"
            ended = Ended(Outcome.KEPT, ExitCode.KEPT, why)
        except _Stop as stop:
            ended = Ended(stop.outcome, stop.outcome.exit_code, str(stop))
        except KeyboardInterrupt:
            ended = Ended(Outcome.ERROR, ExitCode.INTERRUPTED, "interrupted")
        except SreError as error:
            ended = Ended(Outcome.ERROR, error.exit_code, str(error))
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the canary must be taken back
            ended = Ended(Outcome.ERROR, ExitCode.CANNOT_RUN, repr(error))
        self._decide(ended)
        return self._close(ended)

    def abandon(self, why: str) -> Ended:
        """Take back a rollout whose process is gone."""
        decided = self._course.decision() if self._course else None
        if decided is not None:
            return self.conduct()  # which only closes it
        ended = Ended(Outcome.ERROR, ExitCode.INTERRUPTED, why)
        self._decide(ended)
        return self._close(ended)

    def _decide(self, ended: Ended) -> None:
        self._record.write("decision", outcome=ended.outcome, exit_code=ended.exit_code, why=ended.why)

    def _recall(self) -> None:
        """Judge the recorded looks again, so that a rollout that goes on knows all that the one before knew."""
        if self._course is None or self._course.counted_from is None:
            return
        self._judge = Judge(self._plan, self._course.counted_from)
        for told in self._course.looks:
            self._judged.append(self._judge.look(told.look, extended_s=told.extended_s))
        if self._judged and self._judged[-1].action is Action.ROLLBACK:
            raise _Stop(Outcome.BROKEN, self._judged[-1].why)

    def _carry_out(self) -> None:
        self._step("start", self._start)
        for index, stage in enumerate(self._plan.stages):
            if stage.control > 0:
                self._step(f"stage {percent(stage.weight)}", partial(self._compare, index, stage))
        last = self._plan.stages[-1]
        alone = last if last.control == 0 else None
        self._step("promote", partial(self._promote, alone))
        if alone:
            self._step("watch", self._watch)

    def _step(self, name: str, act: Callable[[], str]) -> None:
        if self._course and self._course.done(name):
            return
        self._record.step(name, "began")
        try:
            detail = act()
        except BaseException as error:
            self._record.step(name, "failed", str(error) or type(error).__name__)
            raise
        self._record.step(name, "ok", detail)
        self._tell(f"{name}: {detail}")

    def _start(self) -> str:
        for sentence in statement(self._plan.rules()):
            self._record.write("statement", sentence=sentence)
        for sentence in self._around.foresee():
            self._record.write("forecast", sentence=sentence)
            self._tell(sentence)
        answer = self._permission()
        if not answer.granted:
            raise CannotRun(f"the error-budget policy lets no rollout begin: {answer.why}")
        if self._course and self._record.ledger.pending():
            self._router.end()  # a crash within this step left half a canary
        elif there := self._router.split():
            raise CannotRun(f"version {there.version} is a canary already; `sre canary abort` ends its rollout")
        self._plan_undo(Undo(END_CANARY, {}, "end the canary"))
        self._router.begin(self._version)
        split = self._router.split()
        if split is None:
            raise StepFailed("the canary was gone as soon as it had begun; see `sre status`")
        self._production = split.production
        self._record.write("arms", version=split.version, production=split.production)
        names = ", ".join(replica.name for replica in split.replicas)
        return f"version {split.version} beside version {split.production}, {names} ready"

    def _compare(self, index: int, stage: Stage) -> str:
        """A stage with a control, until the gate promotes. What was known before a crash needs a new look to decide."""
        self._approve(index, stage)
        if self._judge is None:
            start = self._clock.wall()
            self._record.write("counting", start=start)
            self._judge = Judge(self._plan, start)
        self._shift(stage.weight, stage.control)
        while (judged := self._look(index)).action is not Action.PROMOTE:
            if judged.late:
                self._extend(index, judged)
        self._questions.withdraw()
        return judged.why

    def _approve(self, index: int, stage: Stage) -> None:
        """Ask before a stage, if the plan wants it. The stage before goes on meanwhile, and must promote after the yes too."""
        if not stage.approval or self._questions.agreed(APPROVAL, index):
            return
        self._questions.ask(APPROVAL, index, f"May {self._title()} go on to {percent(stage.weight)} of all traffic?")
        deadline = self._clock.wall() + self._around.answer_within_s
        ready = index == 0
        while not (ready and self._questions.agreed(APPROVAL, index)):
            if self._clock.wall() >= deadline:
                late = f"within {duration(self._around.answer_within_s)} nobody let it go on to {percent(stage.weight)}"
                raise _Stop(Outcome.INCONCLUSIVE, late)
            if index > 0:
                ready = self._look(index - 1).action is Action.PROMOTE
            else:
                self._show(0, "waiting for approval")
                self._clock.sleep(POLL_S)
            self._hear()

    def _extend(self, index: int, judged: Judged) -> None:
        """Past its deadline a stage holds: people may let it go on as long again. Evidence decides all the same."""
        if not self._questions.text:
            lasted = duration(judged.standing.stage_s)
            text = f"{self._title()} is undecided after {lasted}: {judged.why}. Let it go on as long again?"
            self._questions.ask(DEADLINE, index, text)
            self._held_since = judged.interval.end
        self._hear()
        if self._questions.text and judged.interval.end - self._held_since >= self._around.answer_within_s:
            raise _Stop(Outcome.INCONCLUSIVE, f"held until its deadline, and nobody let it go on: {judged.why}")

    def _hear(self) -> None:
        """Take an answer that has come; a no ends the rollout."""
        asked = self._questions.text
        answer = self._questions.heard()
        if answer is None:
            return
        self._tell(f"{answer.who} said {'yes' if answer.yes else 'no'} ({answer.how}): {asked}")
        if not answer.yes:
            raise _Stop(Outcome.BROKEN, f"{answer.who} said no ({answer.how}): {asked}")

    def _look(self, index: int) -> Judged:
        """The next look, when it is due."""
        assert self._judge is not None  # noqa: S101 - counting has begun
        self._wait()
        look = self._around.arms.look(self._judge.since, index)
        extended_s = self._extended(index)
        judged = self._judge.look(look, extended_s=extended_s)
        self._record.look(look, judged, extended_s)
        if not self._judged or self._judged[-1].action is not judged.action:
            self._around.view.change(f"{judged.action}: {judged.brief}")
        self._judged.append(judged)
        self._show(index, judged.brief)
        if judged.action is Action.ROLLBACK:
            raise _Stop(Outcome.BROKEN, judged.why)
        return judged

    def _promote(self, alone: Stage | None) -> str:
        """Put the version into production, and all traffic on its replicas."""
        if alone:
            self._approve(len(self._plan.stages) - 1, alone)
        if not any(entry.undo.action == DEMOTE for entry in self._record.ledger.pending()):
            back = Undo(DEMOTE, {"version": self._production}, f"put version {self._production} back into production")
            self._plan_undo(back)
        self._router.promote()
        self._shift(0.0, 0.0)
        return f"every replica serves version {self._version}; no control is left"

    def _watch(self) -> str:
        """At all traffic: what users get, against what production did before."""
        start = self._course.watched_from if self._course else None
        held_to = limits(self._plan.rules(), [one.interval for one in self._judged], self._judged[-1].standing)
        if start is None:
            start = self._clock.wall()
            self._record.write("watching", start=start, held_to=held_to)
        after = Aftermath(self._plan, held_to, start)
        for told in self._course.burns if self._course else ():
            after.look(told.look)
        while True:
            self._wait()
            look = self._around.production.look(after.since, len(self._plan.stages) - 1)
            burned = after.look(look)
            self._record.burn(look, burned)
            self._show(len(self._plan.stages) - 1, burned.why)
            if burned.action is Action.ROLLBACK:
                raise _Stop(Outcome.BROKEN, burned.why)
            if burned.action is Action.PROMOTE:
                break
        answer = self._permission()
        if not answer.granted:
            raise _Stop(Outcome.BROKEN, f"the error-budget policy would let no rollout begin now: {answer.why}")
        return burned.why

    def _close(self, ended: Ended) -> Ended:
        """Take back what is not to stay, and say how it ended."""
        self._questions.withdraw()
        if ended.outcome is Outcome.KEPT:
            self._record.ledger.keep(DEMOTE)
        name = "end" if ended.outcome is Outcome.KEPT else "roll back"
        self._record.step(name, "began")
        try:
            done = self._record.ledger.replay(self._around.target)
        except KeyboardInterrupt:
            left = "interrupted while undoing; `sre undo` takes back what is left"
            self._record.step(name, "failed", left)
            ended = Ended(ended.outcome, ExitCode.UNDO_INCOMPLETE, f"{ended.why}; {left}")
        except UndoIncomplete as error:
            self._record.step(name, "failed", str(error))
            ended = Ended(ended.outcome, ExitCode.UNDO_INCOMPLETE, f"{ended.why}; {error}")
        else:
            self._record.step(name, "ok", "; ".join([*done, "nothing else is left changed"]))
        self._tell(f"{_ENDED[ended.outcome]}: {ended.why}")
        if self._around.courier is not None:
            self._around.courier.close(LAST_MESSAGES_WITHIN_S)
            self._failures(self._around.courier)
        return ended

    def _permission(self) -> Permission:
        if self._around.policy is None:
            return Permission(granted=True, why="no policy")
        answer = self._around.policy()
        self._record.write("policy", granted=answer.granted, why=answer.why)
        return answer

    def _shift(self, canary: float, control: float) -> None:
        self._record.write("weights", canary=canary, control=control)
        self._router.shift(canary, control)
        self._weights = (canary, control)
        self._due = self._clock.wall() + self._plan.scrape

    def _plan_undo(self, undo: Undo) -> None:
        self._record.ledger.plan(undo)
        self._record.write("undo", action=undo.action, sentence=undo.sentence)

    def _extended(self, stage: int) -> float:
        """For how long beyond its deadline people let a stage go on, s."""
        return self._plan.stages[stage].at_most * self._questions.agreed(DEADLINE, stage)

    def _wait(self) -> None:
        """Until the next look is due: one per scrape."""
        while (left := self._due - self._clock.wall()) > 0:
            self._clock.sleep(min(left, POLL_S))
        self._due = max(self._due, self._clock.wall()) + self._plan.scrape

    def _show(self, stage: int, last: str) -> None:
        if self._around.courier is not None:
            self._failures(self._around.courier)
        rule = self._plan.stages[stage]
        standing = self._judged[-1].standing if self._judged and rule.control > 0 else None
        left = None if standing is None else rule.at_most + self._extended(stage) - standing.stage_s
        self._around.view.show(
            Snapshot(
                run=self._record.evidence.id, title=self._title(), stage=f"{stage + 1} of {len(self._plan.stages)}",
                canary=self._weights[0], control=self._weights[1], elapsed_s=self._clock.wall() - self._began, left_s=left,
                standing=standing, question=self._questions.text, last=last, judged=self._judged,
            )
        )  # fmt: skip

    def _tell(self, line: str) -> None:
        self._around.view.change(line)
        if self._around.courier is not None:
            self._around.courier.tell(line)

    def _failures(self, courier: Courier) -> None:
        for failure in courier.failures():
            self._record.finding(failure)

    def _title(self) -> str:
        return f"{self._plan.name} version {self._version}"
