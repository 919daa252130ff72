from __future__ import annotations

import yaml

from sre.judges.manifests.flows import Flow, from_outside, inside, let_in, let_out
from sre.judges.manifests.objects import Manifests, parsed

_PODS = """
{kind: Namespace, metadata: {name: a, labels: {tier: front}}}
---
{kind: Namespace, metadata: {name: b}}
---
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {containers: [{name: c, image: "i:1", ports: [{name: http, containerPort: 80}, {name: admin, containerPort: 81}]}]}
---
kind: Pod
metadata: {name: db, namespace: b, labels: {app: db}}
spec: {containers: [{name: c, image: "i:1", ports: [{name: sql, containerPort: 5432}]}]}
"""


def manifests(*policies: str) -> Manifests:
    return parsed(yaml.safe_load_all(_PODS + "".join(f"\n---\n{policy}" for policy in policies)))


def policy(place: str, name: str, spec: str) -> str:
    return f"{{kind: NetworkPolicy, metadata: {{name: {name}, namespace: {place}}}, spec: {spec}}}"


DENY_A = policy("a", "deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")
DENY_B = policy("b", "deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")
OUT = policy(
    "a",
    "out",
    "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: "
    "{kubernetes.io/metadata.name: b}}, podSelector: {matchLabels: {app: db}}}], ports: [{port: 5432}]}]}",
)
IN = policy(
    "b",
    "in",
    "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: "
    "{tier: front}}}], ports: [{port: sql}]}]}",
)


def test_without_policies_everybody_may_ask_everybody() -> None:
    assert inside(manifests()) == {
        Flow(source, to, port) for source in ("a/web", "b/db") for to, port in (("a/web", 80), ("a/web", 81), ("b/db", 5432))
    }


def test_a_way_takes_both_ends() -> None:
    assert inside(manifests(DENY_A, DENY_B)) == set()
    one_way = Flow("a/web", "b/db", 5432)
    for half, one_end in ((OUT, let_out), (IN, let_in)):
        assert inside(manifests(DENY_A, DENY_B, half)) == set()
        assert one_end(manifests(DENY_A, DENY_B, half)) == {one_way}
    assert inside(manifests(DENY_A, DENY_B, OUT, IN)) == {one_way}


def test_a_peer_without_a_namespace_is_of_the_same() -> None:
    near = policy("b", "in", "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}")
    assert inside(manifests(near)) == {Flow(s, "a/web", p) for s in ("a/web", "b/db") for p in (80, 81)} | {
        Flow("b/db", "b/db", 5432)
    }


def test_an_ingress_policy_says_nothing_of_what_goes_out() -> None:
    closed = policy("a", "closed", "{podSelector: {}, policyTypes: [Ingress]}")
    assert inside(manifests(closed)) == {Flow(source, "b/db", 5432) for source in ("a/web", "b/db")}


def test_a_port_of_another_protocol_opens_nothing() -> None:
    udp = policy("b", "in", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{protocol: UDP, port: 5432}]}]}")
    assert not [flow for flow in inside(manifests(udp)) if flow.to == "b/db"]


def test_an_address_block_of_everything_is_everybody() -> None:
    block = "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: %s}}]}]}"
    assert [flow for flow in inside(manifests(policy("b", "in", block % "0.0.0.0/0"))) if flow.to == "b/db"]
    assert not [flow for flow in inside(manifests(policy("b", "in", block % "192.0.2.0/24"))) if flow.to == "b/db"]


def test_who_comes_from_outside() -> None:
    rule = (
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: "
        "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [edge, b]}]}}], ports: [{port: http}]}]}"
    )
    assert from_outside(manifests(policy("a", "in", rule))) == {("edge", "a/web", 80)}
