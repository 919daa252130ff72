"""`rolling-update`: every replica is replaced under load, as by a release; no user may notice."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded, replicas
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.readings import LoadPlan
from sre.targets.base import Capability

# A replica is given 12 s to answer, 30 s to end, and there are at most twenty.
WATCH_S = 600.0
BEGUN_WITHIN_S = 30.0


class RollingUpdate(Drill):
    """All replicas are replaced, one after another."""

    name = "rolling-update"
    summary = "every replica is replaced under load"
    promises: ClassVar = ("planned-changes",)
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.ROLLOUTS})
    experiment = "rolling-update.json"

    def plan(self, options: Options) -> LoadPlan:
        """Longer than the drill can take."""
        return LoadPlan(options.rate or 200.0, options.seconds or WATCH_S + 120.0, options.seed)

    def inject(self, context: Context) -> str:
        """Run the experiment."""
        there = context.target.replicas()
        context.note(victims=[item.identity for item in there], replicas=len(there))
        return super().inject(context)

    def prove_injected(self, context: Context) -> str:
        """There is a replica that was not there before."""
        before = context.facts["victims"]

        def begun() -> tuple[str | None, str]:
            new = [item.identity for item in context.target.replicas() if item.identity and item.identity not in before]
            return (new[0] if new else None), "only replicas from before"

        new = context.effect(begun, within=BEGUN_WITHIN_S, what="a new replica", every=replicas.LOOK_EVERY_S)
        return f"{new} is new"

    def recover(self, context: Context) -> str:
        """Look at the replicas until as many new ones are ready and have stayed so."""
        return replicas.watch(context, context.facts["victims"], WATCH_S)

    def judge(self, case: Case) -> Judgement:
        """That no request failed, and that it came to its end."""
        # Not one of the verdicts that a late generator overturns: a request that left late and was answered did not fail.
        return loaded.judgement(case, [], [replicas.unnoticed(case)], may_stop=True)
