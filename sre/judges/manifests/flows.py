"""Who may speak to whom: what the network policies of a rendering let through.

A connection passes when a policy of the sender's namespace lets it out and one of the receiver's lets it in
(https://kubernetes.io/docs/concepts/services-networking/network-policies/). Pods that no policy selects may do anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sre.judges.manifests.objects import Manifests, Object, Workload, matches, name, namespace

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


class Flow(NamedTuple):
    """One way that is open, `namespace/workload` to `namespace/workload` at a port."""

    source: str
    to: str
    port: int


def let_out(manifests: Manifests) -> frozenset[Flow]:
    """Every way on which the sender's policies let it out; of a workload with several policies, each opens what it says."""
    return frozenset(way for way, source, to in _ways(manifests) if _passes(manifests, "Egress", source, to, way.port, to))


def let_in(manifests: Manifests) -> frozenset[Flow]:
    """Every way on which the receiver's policies let the sender in."""
    return frozenset(way for way, source, to in _ways(manifests) if _passes(manifests, "Ingress", to, source, way.port, to))


def inside(manifests: Manifests) -> frozenset[Flow]:
    """Every way from one workload to another that is open."""
    return let_out(manifests) & let_in(manifests)


def from_outside(manifests: Manifests) -> frozenset[tuple[str, str, int]]:
    """Namespaces that are none of the rendering's own, and whom of it their pods may ask at which port."""
    own = {one.namespace for one in manifests.workloads}
    return frozenset(
        (place, to.path, port)
        for to in manifests.workloads
        for rule in _rules(manifests, "Ingress", to)
        for peer in rule.get("from", ())
        for place in _named(peer)
        if place not in own
        for port in set(to.ports.values())
        if _at(rule, to, port)
    )


def _ways(manifests: Manifests) -> Iterator[tuple[Flow, Workload, Workload]]:
    for source in manifests.workloads:
        for to in manifests.workloads:
            for port in set(to.ports.values()):
                yield Flow(source.path, to.path, port), source, to


def _rules(manifests: Manifests, direction: str, workload: Workload) -> Iterator[Object]:
    for policy in _policies(manifests, direction, workload):
        yield from policy["spec"].get(direction.lower(), ())


def _policies(manifests: Manifests, direction: str, workload: Workload) -> list[Object]:
    return [
        policy
        for policy in manifests.of("NetworkPolicy")
        if namespace(policy) == workload.namespace
        and direction in policy["spec"].get("policyTypes", ("Ingress",))
        and matches(workload.labels, policy["spec"]["podSelector"])
    ]


def _passes(  # noqa: PLR0913, PLR0917 - both ends of a connection
    manifests: Manifests, direction: str, of: Workload, other: Workload, port: int, to: Workload
) -> bool:
    if not _policies(manifests, direction, of):
        return True
    word = "to" if direction == "Egress" else "from"
    return any(
        _at(rule, to, port) and (not rule.get(word) or any(_is(manifests, peer, of, other) for peer in rule[word]))
        for rule in _rules(manifests, direction, of)
    )


def _at(rule: Object, to: Workload, port: int) -> bool:
    asked = rule.get("ports")
    return not asked or any(one.get("protocol", "TCP") == "TCP" and to.ports.get(one.get("port")) == port for one in asked)


def _is(manifests: Manifests, peer: Object, of: Workload, other: Workload) -> bool:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"]).endswith("/0")
    if "namespaceSelector" in peer:
        place = next((one for one in manifests.of("Namespace") if name(one) == other.namespace), None)
        labels = {**(place["metadata"].get("labels", {}) if place else {}), _NAMESPACE_LABEL: other.namespace}
        if not matches(labels, peer["namespaceSelector"]):
            return False
    elif other.namespace != of.namespace:
        return False
    return matches(other.labels, peer.get("podSelector") or {})


def _named(peer: Object) -> Iterator[str]:
    # Which namespaces a selector names is known when it names them; one that takes all of them is `open-networkpolicy`.
    selector = peer.get("namespaceSelector", {})
    if place := selector.get("matchLabels", {}).get(_NAMESPACE_LABEL):
        yield place
    for expression in selector.get("matchExpressions", ()):
        if expression["key"] == _NAMESPACE_LABEL and expression["operator"] == "In":
            yield from expression["values"]
