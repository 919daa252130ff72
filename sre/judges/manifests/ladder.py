"""The rungs that need nothing but the objects of one rendering."""

from __future__ import annotations

from sre.judges.manifests import arithmetic, flows, pods, references, rights, schedules
from sre.judges.manifests.flows import Flow
from sre.judges.manifests.objects import Finding, Manifests
from sre.judges.manifests.pods import Rule

POLICIES: dict[str, Rule] = pods.RULES | references.RULES | rights.RULES | schedules.RULES


def climb(manifests: Manifests, allowed: frozenset[Flow]) -> tuple[Finding, ...]:
    """Everything that is wrong with a rendering; nothing when it may be applied.

    Args:
        manifests: of one overlay.
        allowed: every way between workloads that is meant to be open; no other may be, at either end.
    """
    if not manifests.objects:
        return (Finding("renders", "manifests", "hold no object"),)
    found = [Finding(rule, *told) for rule, check in POLICIES.items() for told in check(manifests)]
    found += arithmetic.check(manifests)
    # Each end by itself: what one end leaves open, the other end's next change would open.
    for open_ways, verb in ((flows.let_out(manifests), "is let out"), (flows.let_in(manifests), "is let in")):
        found += [
            Finding("flows", way.source, f"{verb} to {way.to} at {way.port}, and should not be") for way in open_ways - allowed
        ]
        found += [Finding("flows", way.source, f"is not {verb[3:]} to {way.to} at {way.port}") for way in allowed - open_ways]
    return tuple(sorted(set(found)))
