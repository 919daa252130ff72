"""`pod-recovery`: a replica is killed under load; the time to full service, and what users noticed."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.drills.lifecycle import require_load
from sre.errors import FaultWithoutEffect, StepFailed
from sre.judges.availability import availability
from sre.judges.recovery import recovery
from sre.measure.recovery import Observation, full_service, impact
from sre.promises import promise
from sre.readings import LoadPlan, Replica
from sre.targets.base import Capability
from sre.units import Unit, show

HELD_S = 10.0
EFFECT_WITHIN_S = 10.0
# Twice the bound and the hold: long enough to say by how much the promise was missed.
WATCH_S = 2 * 30.0 + HELD_S
LOOK_EVERY_S = 0.1
# Three readiness checks of one second each may time out within one look.
LONGEST_GAP_S = 4.0


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
        victim = _replica(context)
        context.note(victim=victim.identity, replicas=len(context.target.replicas()))
        return super().inject(context)

    def prove_injected(self, context: Context) -> str:
        """The process that was there is not there any more."""
        victim = context.facts["victim"]

        def gone() -> tuple[bool | None, str]:
            now = _replica(context)
            return (True if now.identity != victim else None), f"{now.name} is still {now.identity}"

        try:
            context.until(gone, within=EFFECT_WITHIN_S, what=f"{context.options.replica} to be gone", every=LOOK_EVERY_S)
        except StepFailed as error:
            raise FaultWithoutEffect(f"the fault had no effect: {error}") from error
        return f"process {victim.partition('@')[0]} is gone"

    def recover(self, context: Context) -> str:
        """Look at the replicas until all are ready and have stayed so."""
        clock = context.target.clock
        fault, victim = context.facts["fault_at"], context.facts["victim"]
        looks: list[Observation] = []
        found = None
        while found is None and clock.now() - fault < WATCH_S:
            require_load(context)
            replicas = context.target.replicas()
            # The old process may still be listed for a moment after the kill; it does not count.
            looks.append(Observation(clock.now(), sum(item.ready and item.identity != victim for item in replicas)))
            found = _full_service(looks, fault, context.facts["replicas"])
            context.say(f"{looks[-1].ready} of {len(replicas)} replicas ready, {clock.now() - fault:.1f} s after the fault")
            clock.sleep(LOOK_EVERY_S)
        context.note(looks=[[look.at, look.ready] for look in looks], watched=clock.now() - fault)
        if found is None:
            return f"not whole again after {clock.now() - fault:.0f} s"
        context.note(fault_end=fault + found)
        return f"{looks[-1].ready} of {context.facts['replicas']} ready after {show(found, Unit.SECONDS)}, held {HELD_S:.0f} s"

    def judge(self, case: Case) -> Judgement:
        """Time to full service from the looks, availability from the users' samples."""
        recording, samples = case.load()
        facts = case.facts
        of_users = [availability(promise("availability"), recording, samples)]
        if "looks" not in facts:
            return loaded.judgement(case, of_users, may_stop=True)
        looks = [Observation(at, ready) for at, ready in facts["looks"]]
        seconds = _full_service(looks, facts["fault_at"], facts["replicas"])
        verdict = recovery(promise("pod-recovery"), seconds, watched=facts["watched"], event="full service")
        judged = loaded.judgement(case, of_users, [verdict], may_stop=True)
        noticed = impact(samples, fault=facts["fault_at"], end=facts["fault_at"] + (seconds or facts["watched"]))
        note = f"users lost {noticed.failed:,} of {noticed.requests:,} requests between the fault and full service"
        return Judgement(judged.verdicts, (*judged.findings, note) if noticed.failed else judged.findings)


def _full_service(looks: list[Observation], fault: float, replicas: int) -> float | None:
    return full_service(looks, fault=fault, replicas=replicas, held=HELD_S, longest_gap=LONGEST_GAP_S)


def _replica(context: Context) -> Replica:
    name = context.options.replica
    found = next((item for item in context.target.replicas() if item.name == name), None)
    if found is None:
        raise StepFailed(f"replica {name!r} does not exist; there are {', '.join(r.name for r in context.target.replicas())}")
    return found
