"""`network-policy`: probes in the clothes of every role ask every server; what gets through is held against the list of ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sre.drills.base import Case, Context, Drill, Judgement
from sre.errors import StepFailed
from sre.faults.base import Undo
from sre.judges.manifests import ways
from sre.judges.manifests.flows import Flow
from sre.judges.network import Comparison, compare
from sre.judges.ruling import doubt, ruled, told
from sre.promises import promise
from sre.readings import Try
from sre.targets.base import Capability

BEGUN_WITHIN_S = 90.0
# Policies take a moment to reach the node of a new pod, and nothing says when they have.
SETTLED_WITHIN_S = 60.0
LOOK_EVERY_S = 2.0


class NetworkPolicy(Drill):
    """Nothing of the system is touched: probes come beside it and go."""

    name = "network-policy"
    summary = "every role tries to reach every server, and what lies beyond"
    promises: ClassVar = ("network-policy",)
    needs: ClassVar = frozenset({Capability.NETWORK})

    def preflight(self, context: Context) -> str:
        """No probe of an earlier drill is there. That all servers are is not asked: one that is away becomes a doubt."""
        self.require_capabilities(context.target)
        if left := context.target.network.left():
            raise StepFailed(f"{left} still there; run `sre undo` or delete them")
        return "no probe of an earlier drill is left"

    def inject(self, context: Context) -> str:
        """Start the probes."""
        undo = Undo("forget-probes", {}, "delete every probe of the network")
        context.ledger.plan(undo)
        roles = context.target.network.begin()
        # The list changes with the system; a run is judged by the one that held.
        context.note(roles=list(roles), listed=[list(way) for way in sorted(ways.between(roles))])
        return f"{len(roles)} probes   undo: {undo.sentence}"

    def prove_injected(self, context: Context) -> str:
        """All of them run."""
        network = context.target.network

        def running() -> tuple[bool | None, str]:
            waiting = network.waiting()
            return (None if waiting else True), waiting

        context.until(running, within=BEGUN_WITHIN_S, what="every probe to run", every=1.0)
        return f"{len(context.facts['roles'])} probes run"

    def recover(self, context: Context) -> str:
        """Let all ask until everything is as it should be or has had its time. The last answers count."""
        network, clock = context.target.network, context.target.clock
        deadline = clock.now() + SETTLED_WITHIN_S
        looks = 0
        while True:
            looks += 1
            tries, listening = network.tries(), network.listening()
            found = compare(context.facts["roles"], tries, listening, _listed(context.facts))
            if (not found.findings and not found.doubts) or clock.now() > deadline:
                break
            context.say(next(iter((*map(told, found.findings), *found.doubts))))
            clock.sleep(LOOK_EVERY_S)
        context.note(
            tries=[[one.source, one.to, one.at, one.port, one.answer] for one in tries],
            listening=[*map(list, listening)],
            looks=looks,
        )
        return f"{len(tries)} connections tried, {sum(one.answer == 'open' for one in tries)} open, {looks} times"

    def judge(self, case: Case) -> Judgement:
        """Every way against the list."""
        if "tries" not in case.facts:
            return Judgement(())
        found = _compared(case.facts)
        kept = f"{found.ways} ways are as they are listed"
        verdict = ruled(promise("network-policy"), found.findings, found.ways, kept)
        few = [f"{found.ways} of at least {promise('network-policy').least} ways were compared"]
        doubts = [*found.doubts, *(few if found.ways < promise("network-policy").least else [])]
        return Judgement((doubt(verdict, doubts),), (*map(told, found.findings), *found.doubts, *found.unproven))


def _compared(facts: Mapping[str, Any]) -> Comparison:
    tries = [Try(*one) for one in facts["tries"]]
    return compare(facts["roles"], tries, [(at, port) for at, port in facts["listening"]], _listed(facts))


def _listed(facts: Mapping[str, Any]) -> frozenset[Flow]:
    return frozenset(Flow(*way) for way in facts["listed"])
