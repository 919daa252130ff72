"""The database drill: a fault of the cluster while users predict and writers write, and what became of every write.

The faults stand in `database_faults`. The writers note each attempt in the drill's folder, which no fault of the database
reaches; once the cluster is whole again their history is compared with the rows that the primary holds.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import psycopg

from sre.chaos import runner
from sre.drills import history_files, loaded
from sre.drills.base import EXPERIMENTS, PREFLIGHT_WITHIN_S, Case, Context, Drill, Judgement, Options
from sre.drills.database_clients import Clients, Together, clients_of
from sre.drills.lifecycle import require_load
from sre.errors import StepFailed
from sre.faults.database import member_named, trouble
from sre.judges import history
from sre.judges.availability import none_failed
from sre.judges.loss import unrecorded
from sre.measure.quantiles import answered
from sre.measure.samples import read
from sre.promises import promise
from sre.readings import LoadPlan, Member
from sre.targets.base import Capability, Target
from sre.units import Unit, show
from sre.verdict import Verdict

# Writers at their rate for so long are served.
HELD_S = 10.0
# The bound of the recovery, and the hold: who is not served by then has been seen not to be.
WATCH_S = 600.0 + HELD_S
EFFECT_WITHIN_S = 15.0
# What is repaired hurts once more when it comes back wrong: it must do so under the eyes of the writers.
AFTER_REPAIR_S = 8.0
RECORDED_WITHIN_S = 60.0

Seen = tuple[str | None, str]


class DatabaseDrill(Drill):
    """One fault of the database cluster.

    Attributes:
        whom: the fault hits, as roles with commas between.
        promotes: whether another member must be the primary afterwards.
        watch_s: least time under the fault, s.
        bites_s: an outage that begins later after the fault is not the fault's, s.
        writes_per_s: of all writers together.
    """

    promises: ClassVar = (
        "database-recovery", "database-failover", "acknowledged-writes", "prediction-availability", "prediction-log",
    )  # fmt: skip
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.DATABASE_CLUSTER})
    whom: ClassVar[str] = "primary"
    promotes: ClassVar[bool] = True
    watch_s: ClassVar[float] = HELD_S
    bites_s: ClassVar[float] = 5.0
    writes_per_s: ClassVar[float] = 100.0

    def clients(self, target: Target) -> Clients:
        """Those who reach the database of a target as its clients do."""
        return clients_of(target)

    def plan(self, options: Options) -> LoadPlan:
        """Enough users that many predictions are waiting to be recorded, for longer than the drill can take."""
        return LoadPlan(options.rate or 200.0, options.seconds or WATCH_S + 300.0, options.seed)

    def steady_seconds(self, options: Options) -> float:
        """Before the writers come, s."""
        del options
        return 2.0

    def preflight(self, context: Context) -> str:
        """As every drill, and the cluster is whole."""
        seen = super().preflight(context)
        context.until(lambda: _whole(context), within=PREFLIGHT_WITHIN_S, what="the database cluster to be whole", every=1.0)
        return f"{seen}, the database cluster is whole"

    def steady(self, context: Context) -> str:
        """Users first, then writers, whose rate before the fault is what service means after it."""
        clients = self.clients(context.target)
        context.note(dropped_before=clients.dropped())
        seen = super().steady(context)
        if context.load is None:
            raise StepFailed("there is no load")
        run = f"{context.folder.parents[1].name}/{self.name}"
        context.note(run=run, bites_s=self.bites_s)
        plan = replace(self.plan(context.options), rate=self.writes_per_s)
        context.load = Together(context.load, clients.write(run, plan, context.folder))
        context.target.clock.sleep(HELD_S)
        require_load(context)
        acked = sum(attempt.fate is history.Fate.ACKED for attempt in _attempts(context))
        return f"{seen}, {acked:,} writes acknowledged"

    def inject(self, context: Context) -> str:
        """Choose whom the fault hits, and run the experiment."""
        members = context.target.database.members()
        primary = named(members, member_named(context.target.database, "primary"))
        victims = [member_named(context.target.database, role) for role in self.whom.split(",")]
        context.note(
            victims=victims, identity=named(members, victims[0]).identity, primary=primary.name, timeline=primary.timeline
        )
        injection = runner.run(
            EXPERIMENTS / str(self.experiment), context.target, context.ledger, context.folder,
            {"member": ",".join(victims)}, ran=context.ran,
        )  # fmt: skip
        context.note(fault=injection.fault, fault_at=injection.at)
        return f"{injection.fault}   undo: {injection.undo}"

    def prove_injected(self, context: Context) -> str:
        """Someone who did not inject the fault sees it."""
        clients = self.clients(context.target)
        return context.effect(
            lambda: self.effect(context, clients), within=EFFECT_WITHIN_S, what=f"an effect of `{context.facts['fault']}`"
        )

    @abstractmethod
    def effect(self, context: Context, clients: Clients) -> Seen:
        """What proves the fault, or None, and what was seen instead."""

    def recover(self, context: Context) -> str:
        """Until every writer is served again; then repair, until the cluster is whole; then count."""
        clock, clients = context.target.clock, self.clients(context.target)
        fault = context.facts["fault_at"]
        noticed = self._watch(context)
        primary = context.target.database.primary()
        context.note(primary_after=primary.name if primary else "", timeline_after=primary.timeline if primary else 0)
        repair = clock.now()
        context.ledger.replay(context.target)
        context.note(fault_end=clock.now(), whole_after=clock.now() - repair)
        clock.sleep(AFTER_REPAIR_S)
        require_load(context)
        if context.load is not None:
            context.load.stop()
        self.count(context, clients)
        if noticed.full_service is None:
            return f"not every writer was served again in {noticed.watched:.0f} s after the fault"
        first = show(noticed.first_write, Unit.SECONDS)
        return (
            f"first write after {first}, every writer after {show(noticed.full_service, Unit.SECONDS)}, "
            f"cluster whole {show(context.facts['whole_after'], Unit.SECONDS)} after the repair at {repair - fault:.1f} s"
        )

    def judge(self, case: Case) -> Judgement:
        """Recovery and loss from the writers' history, failed predictions from the users' samples, the log from its rows."""
        recording, samples = case.load()
        facts = case.facts
        # Not one of the verdicts that a late generator overturns: a request that left late and was answered did not fail.
        verdicts: list[Verdict] = [none_failed(promise("prediction-availability"), recording, samples)]
        if case.history is None or "fault_at" not in facts:
            return loaded.judgement(case, [], verdicts, may_stop=True)
        noticed = _noticed(case.history.attempts, facts)
        verdicts += [
            history.full_service(promise("database-recovery"), noticed),
            history.first_write(promise("database-failover"), noticed),
        ]
        if case.history.rows is not None:
            checked = history.check(case.history.attempts, case.history.rows)
            verdicts.append(history.no_acknowledged_loss(promise("acknowledged-writes"), checked))
        if "recorded" in facts:
            before, after = facts["dropped_before"], facts["dropped_after"]
            dropped = None if before is None or after is None else after - before
            got = int(np.count_nonzero(answered(samples)))
            verdicts.append(unrecorded(promise("prediction-log"), got, facts["recorded"], dropped))
        judged = loaded.judgement(case, [], verdicts, may_stop=True)
        return Judgement(judged.verdicts, (*judged.findings, *self._findings(facts, noticed)))

    def _watch(self, context: Context) -> history.Service:
        clock, fault = context.target.clock, context.facts["fault_at"]
        while True:
            require_load(context)
            noticed = _noticed(_attempts(context), context.facts)
            passed = clock.now() - fault
            served = noticed.full_service is not None or not noticed.steady_rate  # without a rate nothing will ever tell
            if passed >= WATCH_S or (served and passed >= self.watch_s):
                return noticed
            first = "no write yet" if noticed.first_write is None else f"first write after {noticed.first_write:.1f} s"
            context.say(f"{first}, {passed:.0f} s after the fault")
            # Each look reads the whole ledger, and the file decides, not the look.
            clock.sleep(max(2.0, passed / 8))

    def count(self, context: Context, clients: Clients) -> None:
        """Read back what the primary and the log hold, now that nobody writes any more."""

        def rows() -> tuple[list[history.Row] | None, str]:
            try:
                return clients.rows(context.facts["run"]), ""
            except psycopg.Error as error:
                return None, " ".join(str(error).split())

        found = context.until(rows, within=RECORDED_WITHIN_S, what="the rows of the writers", every=1.0)
        history_files.write_rows(context.folder, found)
        _, samples = read(context.folder)
        wanted, deadline = int(np.count_nonzero(answered(samples))), context.target.clock.now() + RECORDED_WITHIN_S
        recorded = None
        while (recorded is None or recorded < wanted) and context.target.clock.now() < deadline:
            context.say(f"{recorded or 0:,} of {wanted:,} predictions in the log")
            context.target.clock.sleep(0.5)
            try:
                recorded = clients.recorded(context.facts["load_from"])
            except psycopg.Error:
                recorded = None
        context.target.clock.sleep(context.observers.settle_s)
        context.note(recorded=recorded, dropped_after=clients.dropped())

    def _findings(self, facts: Any, noticed: history.Service) -> list[str]:
        found = []
        if noticed.failed or noticed.unknown:
            found.append(f"{noticed.failed:,} writes were refused and {noticed.unknown:,} are of unknown fate since the fault")
        after = facts.get("primary_after")
        if after is not None and (after != facts["primary"]) is not self.promotes:
            found.append(f"primary {facts['primary']} before and {after or 'none'} after, which was not expected")
        return found


def _whole(context: Context) -> tuple[bool | None, str]:
    return (None, seen) if (seen := trouble(context.target.database)) else (True, "")


def _attempts(context: Context) -> tuple[history.Attempt, ...]:
    found = history_files.read_history(context.folder)
    return () if found is None else found.attempts


def _noticed(attempts: tuple[history.Attempt, ...], facts: Any) -> history.Service:
    return history.service(attempts, fault=facts["fault_at"], bites=facts["bites_s"], held=HELD_S)


def named(members: tuple[Member, ...], name: str) -> Member:
    """The member of that name."""
    return next(member for member in members if member.name == name)
