"""`pod-recovery`: a replica is killed under load; the time to full service, and what users noticed."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded, replicas
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.judges.availability import availability
from sre.judges.recovery import recovery
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability

# Twice the bound and the hold: long enough to say by how much the promise was missed.
WATCH_S = 2 * 30.0 + replicas.HELD_S


class PodRecovery(Drill):
    """SIGKILL of one replica while users send requests."""

    name = "pod-recovery"
    summary = "SIGKILL of a replica under load"
    promises: ClassVar = ("pod-recovery", "availability")
    needs: ClassVar = frozenset({Capability.REPLICAS})
    experiment = "pod-recovery.json"

    def plan(self, options: Options) -> LoadPlan:
        """Enough requests that 0.1 % of them is more than one, and longer than the drill can take."""
        return LoadPlan(options.rate or 300.0, options.seconds or 300.0, options.seed)

    def inject(self, context: Context) -> str:
        """Run the experiment."""
        victim = replicas.named(context, context.options.replica)
        context.note(victim=victim.identity, replicas=len(context.target.replicas()))
        return super().inject(context)

    def prove_injected(self, context: Context) -> str:
        """The process that was there is not there any more."""
        victim = context.facts["victim"]

        def gone() -> tuple[bool | None, str]:
            now = replicas.named(context, context.options.replica)
            return (True if now.identity != victim else None), f"{now.name} is still {now.identity}"

        what = f"{context.options.replica} to be gone"
        context.effect(gone, within=replicas.EFFECT_WITHIN_S, what=what, every=replicas.LOOK_EVERY_S)
        return f"process {victim.partition('@')[0]} is gone"

    def recover(self, context: Context) -> str:
        """Look at the replicas until all are ready and have stayed so."""
        return replicas.watch(context, {context.facts["victim"]}, WATCH_S)

    def judge(self, case: Case) -> Judgement:
        """Time to full service from the looks, availability from the users' samples."""
        recording, samples = case.load()
        of_users = [availability(promise("availability"), recording, samples)]
        if "looks" not in case.facts:
            return loaded.judgement(case, of_users, may_stop=True)
        seconds = replicas.seconds_to_full_service(case.facts)
        verdict = recovery(promise("pod-recovery"), seconds, watched=case.facts["watched"], event="full service")
        judged = loaded.judgement(case, of_users, [verdict], may_stop=True)
        return Judgement(judged.verdicts, (*judged.findings, *replicas.noticed(case, seconds)))
