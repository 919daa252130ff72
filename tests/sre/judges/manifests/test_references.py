from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.judges.manifests.references import RULES
from tests.sre.judges.manifests.examples import System, broken, cases

_INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: ml-system}
spec: {rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: %s, port: {name: http}}}}]}}]}
"""
_SECRET = "{apiVersion: v1, kind: Secret, metadata: {name: web, namespace: ml-system}, data: {key: bGV0bWVpbg==}}"


def _route(system: System) -> dict[str, object]:
    found: dict[str, object] = system["HTTPRoute", "web"]["spec"]["rules"][0]["backendRefs"][0]
    return found


def _arm(system: System) -> None:
    system.deployment["template"]["metadata"]["labels"]["track"] = "canary"


BREAKS: dict[str, list[Callable[[System], object]]] = {
    "dangling-service": [
        lambda s: s["Service", "web"]["spec"].update(selector={"app": "wbe"}),
        lambda s: s["Service", "web"]["spec"].pop("selector"),
    ],
    "invalid-target-ports": [lambda s: s["Service", "web"]["spec"]["ports"][0].update(targetPort=8000)],
    "mismatching-selector": [
        lambda s: s.deployment["selector"]["matchLabels"].update(app="wbe"),
        lambda s: s.deployment.pop("selector"),
    ],
    "non-existent-service-account": [lambda s: s.remove("ServiceAccount", "web")],
    "dangling-config-map": [
        lambda s: s.remove("ConfigMap", "web-abcdef0123"),
        lambda s: s.pod.update(volumes=[{"name": "c", "configMap": {"name": "other"}}]),
        lambda s: s.pod.update(volumes=[{"name": "c", "projected": {"sources": [{"configMap": {"name": "other"}}]}}]),
        lambda s: s.container["env"].append({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "other", "key": "a"}}}),
    ],
    "dangling-horizontalpodautoscaler": [
        lambda s: s["HorizontalPodAutoscaler", "web"]["spec"]["scaleTargetRef"].update(name="wbe"),
        lambda s: s.deployment.update(replicas=3),
    ],
    "hpa-minimum-three-replicas": [lambda s: s["HorizontalPodAutoscaler", "web"]["spec"].update(minReplicas=2)],
    "minimum-three-replicas": [lambda s: s.remove("HorizontalPodAutoscaler", "web")],
    "no-pod-disruption-budget": [lambda s: s.remove("PodDisruptionBudget", "web")],
    "pdb-max-unavailable": [
        lambda s: s["PodDisruptionBudget", "web"]["spec"].update(maxUnavailable=0),
        lambda s: s["PodDisruptionBudget", "web"]["spec"].update(maxUnavailable="50%"),
        lambda s: s["PodDisruptionBudget", "web"].update(spec={"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}),
        lambda s: s["PodDisruptionBudget", "web"]["spec"].update(selector={"matchLabels": {"app": "wbe"}}),
    ],
    "no-anti-affinity": [lambda s: s.pod.pop("topologySpreadConstraints")],
    "spread-over-live-nodes": [
        lambda s: s.pod["topologySpreadConstraints"][0].pop("nodeTaintsPolicy"),
        lambda s: s.pod["topologySpreadConstraints"][0].update(labelSelector={"matchLabels": {"app": "wbe"}}),
    ],
    "no-rolling-update-strategy": [
        lambda s: s.deployment["strategy"].update(type="Recreate"),
        lambda s: s.deployment["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        lambda s: s.deployment.pop("strategy"),
    ],
    "dangling-route": [
        lambda s: _route(s).update(name="wbe"),
        lambda s: _route(s).update(port=8000),
        lambda s: s.remove("Gateway", "edge"),
        lambda s: s.add(_INGRESS % "wbe"),
    ],
    "canary-at-rest": [_arm, lambda s: _route(s).update(name="web-canary")],
    "dangling-networkpolicy": [lambda s: s["NetworkPolicy", "web"]["spec"].update(podSelector={"matchLabels": {"app": "wbe"}})],
    "non-isolated-pod": [
        lambda s: s.remove("NetworkPolicy", "default-deny"),
        lambda s: s["NetworkPolicy", "default-deny"]["spec"].update(policyTypes=["Ingress"]),
        lambda s: s["NetworkPolicy", "default-deny"]["spec"].update(egress=[{}]),
    ],
    "open-networkpolicy": [
        lambda s: s["NetworkPolicy", "web"]["spec"]["ingress"][0].pop("from"),
        lambda s: s["NetworkPolicy", "web"]["spec"]["ingress"][0].update({"from": [{"namespaceSelector": {}}]}),
        lambda s: s["NetworkPolicy", "web"]["spec"]["ingress"][0].update({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
        lambda s: s["NetworkPolicy", "web"]["spec"]["ingress"][0].pop("ports"),
        lambda s: s["NetworkPolicy", "web"]["spec"]["egress"].append({}),
        lambda s: s["NetworkPolicy", "web"]["spec"]["egress"].append({"ports": [{"port": 5432}]}),
    ],
    "pod-security": [
        lambda s: s["Namespace", "data"]["metadata"]["labels"].update({"pod-security.kubernetes.io/enforce": "baseline"}),
        lambda s: s["Namespace", "data"]["metadata"].pop("labels"),
    ],
    "use-namespace": [lambda s: s["Service", "web"]["metadata"].pop("namespace")],
    "committed-secret": [lambda s: s.add(_SECRET)],
    "duplicate-object": [lambda s: s["ServiceAccount", "web"].update(kind="Service")],
}


def test_a_good_system_breaks_no_rule() -> None:
    system = System()
    system.add(_INGRESS % "web")
    assert broken(RULES, system) == set()


def test_every_rule_is_broken_here() -> None:
    assert BREAKS.keys() == RULES.keys()


@pytest.mark.parametrize(("rule", "number"), cases(BREAKS))
def test_what_breaks_a_rule_is_found(rule: str, number: int) -> None:
    system = System()
    BREAKS[rule][number](system)
    if rule == "duplicate-object":
        system["ServiceAccount", "web"]["spec"] = system["Service", "web"]["spec"]
    assert rule in broken(RULES, system)


def test_arms_at_rest_are_fine() -> None:
    system = System()
    _arm(system)
    system.remove("HorizontalPodAutoscaler", "web")
    system.deployment["replicas"] = 0
    assert "canary-at-rest" not in broken(RULES, system)
