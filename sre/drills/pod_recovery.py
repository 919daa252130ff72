"""Losing one replica under load: killed, its pod deleted, its pod evicted; the time to full service, and what users noticed."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded, replicas
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.errors import CannotRun
from sre.judges.availability import availability
from sre.judges.recovery import recovery
from sre.promises import promise
from sre.readings import LoadPlan, Replica
from sre.targets.base import Capability
from sre.verdict import Verdict

# Twice the bound and the hold: long enough to say by how much the promise was missed.
WATCH_S = 2 * 30.0 + replicas.HELD_S
# More than must be sent, for arrivals are random.
SAMPLES = 1.1


class PodRecovery(Drill):
    """SIGKILL of one replica while users send requests."""

    name = "pod-recovery"
    summary = "SIGKILL of a replica under load"
    promises: ClassVar = ("pod-recovery", "availability")
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.REPLICAS})
    experiment = "pod-recovery.json"

    def plan(self, options: Options) -> LoadPlan:
        """Enough requests that 0.1 % of them is more than one, and longer than the drill can take."""
        return LoadPlan(options.rate or 300.0, options.seconds or 300.0, options.seed)

    def inject(self, context: Context) -> str:
        """Run the experiment."""
        victims = self.victims(context)
        context.note(
            victims=[victim.identity for victim in victims], names=[victim.name for victim in victims],
            replicas=len(context.target.replicas()),
        )  # fmt: skip
        said = super().inject(context)
        context.note(replicas=replicas.wanted(context))
        return said

    def victims(self, context: Context) -> list[Replica]:
        """Whom it hits: the replica of the options."""
        return [replicas.named(context, context.options.replica)]

    def prove_injected(self, context: Context) -> str:
        """The processes that were there are not there any more."""
        victims = context.facts["victims"]

        def gone() -> tuple[bool | None, str]:
            there = [one for one in context.target.replicas() if one.identity in victims]
            return (None if there else True), ", ".join(f"{one.name} is still {one.identity}" for one in there)

        what = f"{' and '.join(context.facts['names'])} to be gone"
        context.effect(gone, within=replicas.EFFECT_WITHIN_S, what=what, every=replicas.LOOK_EVERY_S)
        return f"process {', '.join(victim.partition('@')[0] for victim in victims)} is gone"

    def recover(self, context: Context) -> str:
        """Look until all replicas are ready and have stayed so, and users have sent as many requests as decide something."""
        said = replicas.watch(context, context.facts["victims"], WATCH_S)
        if "availability" in self.promises:
            enough = SAMPLES * promise("availability").least / self.plan(context.options).rate
            context.target.clock.sleep(max(0.0, context.facts["load_from"] + enough - context.target.clock.wall()))
        return said

    def judge(self, case: Case) -> Judgement:
        """Time to full service from the looks, availability from the users' samples."""
        recording, samples = case.load()
        of_users = [availability(promise("availability"), recording, samples)]
        judged = loaded.judgement(case, of_users, _recovered(case), may_stop=True)
        if "looks" not in case.facts:
            return judged
        noticed = replicas.noticed(case, replicas.seconds_to_full_service(case.facts))
        return Judgement(judged.verdicts, (*judged.findings, *noticed))


class PodDeleted(PodRecovery):
    """Its pod is deleted without grace."""

    name = "pod-deleted"
    summary = "deletion of a replica's pod under load"
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.PODS})
    experiment = "pod-deleted.json"


class PodEvicted(PodRecovery):
    """Its pod is evicted, which no user may notice."""

    name = "pod-evicted"
    summary = "eviction of a replica's pod under load"
    promises: ClassVar = ("pod-recovery", "planned-changes")
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.PODS})
    experiment = "pod-evicted.json"

    def judge(self, case: Case) -> Judgement:
        """Time to full service, and that no request failed."""
        unnoticed = replicas.unnoticed(case)
        return loaded.judgement(case, [], [*_recovered(case), unnoticed], may_stop=True)


class ZoneKilled(PodRecovery):
    """All replicas that are in the same zone as the replica of the options."""

    name = "zone-killed"
    summary = "SIGKILL of every replica of a zone under load"
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.NODES})
    experiment = "zone-killed.json"

    def preflight(self, context: Context) -> str:
        """As every drill; and nodes say in which of several zones they are."""
        seen = super().preflight(context)
        nodes = context.target.nodes.all()
        if nowhere := sorted(node.name for node in nodes if node.replicas and not node.zone):
            raise CannotRun(
                f"{', '.join(nowhere)} with replicas of the API: in no zone; label all with topology.kubernetes.io/zone"
            )
        zones = {node.zone for node in nodes} - {""}
        if len(zones) < 2:
            raise CannotRun(f"nodes name {len(zones)} zones, and two are needed; label them with topology.kubernetes.io/zone")
        return f"{seen}, {len(zones)} zones"

    def victims(self, context: Context) -> list[Replica]:
        """Those on the nodes of the zone."""
        name, nodes = replicas.named(context, context.options.replica).name, context.target.nodes.all()
        zone = next((node.zone for node in nodes if name in node.replicas), "")
        if not zone:
            raise CannotRun(f"{name} is on no node of a zone just now")
        named = {name for node in nodes if node.zone == zone for name in node.replicas}
        return [replica for replica in context.target.replicas() if replica.name in named]

    def variables(self, context: Context) -> dict[str, str]:
        """All of them."""
        return {"replica": ",".join(context.facts["names"])}


def _recovered(case: Case) -> list[Verdict]:
    if "looks" not in case.facts:
        return []
    seconds = replicas.seconds_to_full_service(case.facts)
    return [recovery(promise("pod-recovery"), seconds, watched=case.facts["watched"], event="full service")]
