"""Losing a node under load: its power, its cable, its agent; and giving one up in good order."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded, replicas
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.errors import CannotRun
from sre.judges.recovery import recovery
from sre.promises import promise
from sre.readings import LoadPlan, Node
from sre.targets.base import Capability
from sre.verdict import Verdict

# Twice the bound and the hold: long enough to say by how much the promise was missed.
WATCH_S = 2 * 120.0 + replicas.HELD_S
PROMETHEUS = "monitoring/prometheus-"


class NodeRecovery(Drill):
    """The node that carries a replica loses its power while users send requests.

    Attributes:
        how: key of `faults.node.KINDS`.
    """

    name = "node-recovery"
    summary = "power off of a node under load"
    promises: ClassVar[tuple[str, ...]] = ("node-recovery",)
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.NODES})
    experiment = "node-recovery.json"
    how: ClassVar[str] = "power-off"

    def plan(self, options: Options) -> LoadPlan:
        """Longer than the drill can take, the way back of the node included."""
        return LoadPlan(options.rate or 200.0, options.seconds or WATCH_S + 350.0, options.seed)

    def preflight(self, context: Context) -> str:
        """As every drill; and every node is ready, more than one, and one that is lost can be brought back."""
        seen = super().preflight(context)
        nodes = context.target.nodes
        nodes.check(self.how)
        there = nodes.all()
        if away := [node.name for node in there if not (node.ready and node.open)]:
            raise CannotRun(f"{', '.join(away)} not ready or not open to pods; a second node must not be lost")
        if len(there) < 2:
            raise CannotRun(f"there are {len(there)} nodes; what is on one of them could not begin elsewhere")
        return f"{seen}, {len(there)} nodes ready"

    def inject(self, context: Context) -> str:
        """Choose the node that carries the replica of the options, and run the experiment."""
        name = replicas.named(context, context.options.replica).name
        node = next((one for one in context.target.nodes.all() if name in one.replicas), None)
        if node is None:
            raise CannotRun(f"{name} is on no node just now")
        there = context.target.replicas()
        victims = [item.identity for item in there if item.name in node.replicas]
        context.note(node=node.name, victims=victims, others=node.others, replicas=len(there))
        said = super().inject(context)
        context.note(replicas=replicas.wanted(context))
        return said

    def variables(self, context: Context) -> dict[str, str]:
        """The node."""
        return {"node": context.facts["node"]}

    def prove_injected(self, context: Context) -> str:
        """None of the replicas that were on it answers through it."""
        return replicas.prove_gone(context, context.facts["victims"], f"{context.facts['node']} to be lost")

    def recover(self, context: Context) -> str:
        """Look at the replicas until as many as before are ready elsewhere and have stayed so."""
        return replicas.watch(context, context.facts["victims"], WATCH_S)

    def judge(self, case: Case) -> Judgement:
        """Time to full service from the looks."""
        if "looks" not in case.facts:
            return Judgement(())
        seconds = replicas.seconds_to_full_service(case.facts)
        verdict = recovery(promise("node-recovery"), seconds, watched=case.facts["watched"], event="full service")
        judged = _judged(case, verdict)
        return Judgement(judged.verdicts, (*judged.findings, *replicas.noticed(case, seconds)))


class NodeCut(NodeRecovery):
    """Its cable is pulled."""

    name = "node-cut"
    summary = "pulled cable of a node under load"
    experiment = "node-cut.json"
    how = "cut"


class NodeKubelet(NodeRecovery):
    """Its kubelet ends, and its containers run on."""

    name = "node-kubelet"
    summary = "stopped kubelet of a node under load"
    experiment = "node-kubelet.json"
    how = "kubelet"


class NodeDrain(NodeRecovery):
    """It is drained, which no user may notice."""

    name = "node-drain"
    summary = "drain of a node under load"
    promises: ClassVar = ("planned-changes",)
    experiment = "node-drain.json"
    how = "drain"

    def prove_injected(self, context: Context) -> str:
        """The control plane says that it takes no more pods."""

        def closed() -> tuple[Node | None, str]:
            node = next(one for one in context.target.nodes.all() if one.name == context.facts["node"])
            return (None if node.open else node), f"{node.name} takes pods"

        node = context.effect(
            closed, within=replicas.EFFECT_WITHIN_S, what=f"{context.facts['node']} to be closed", every=replicas.LOOK_EVERY_S
        )
        return f"{node.name} takes no more pods"

    def judge(self, case: Case) -> Judgement:
        """That no request failed."""
        return _judged(case, replicas.unnoticed(case))


def _judged(case: Case, verdict: Verdict) -> Judgement:
    # Neither is one that a late generator overturns: a request that left late and was answered did not fail.
    others = case.facts.get("others", ())
    counted = not any(pod.startswith(PROMETHEUS) for pod in others)
    judged = loaded.judgement(case, [], [verdict], may_stop=True, counted=counted)
    along = [f"also on {case.facts['node']}: {', '.join(others)}"] if others else []
    return Judgement(judged.verdicts, (*judged.findings, *along))
