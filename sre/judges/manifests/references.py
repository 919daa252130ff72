"""Rules for what objects name: it must be there, and there must be enough of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sre.judges.manifests.objects import NAMESPACES, Manifests, Object, Workload, matches, namespace, scaled, subject
from sre.judges.manifests.pods import Rule, Told

_LEAST_REPLICAS = 3
# What may be sent to any address: questions to the DNS, and to the API server, whose addresses differ from cluster to cluster.
_ANYWHERE = {53, 443, 6443}
_ENFORCE = "pod-security.kubernetes.io/enforce"
# Labels that a pod gets while it runs: Patroni says who is the primary.
_GIVEN_LATER = {"role"}
_NO_NAMESPACE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterIssuer",
    "GatewayClass",
    "PriorityClass",
    "StorageClass",
}


def _behind(manifests: Manifests, service: Object) -> tuple[Workload, ...]:
    selector = {key: value for key, value in service["spec"].get("selector", {}).items() if key not in _GIVEN_LATER}
    return manifests.selected(namespace(service), selector) if selector else ()


def _services(manifests: Manifests) -> Told:
    for service in manifests.of("Service"):
        if not _behind(manifests, service):
            yield subject(service), f"selects no pod with {service['spec'].get('selector')}"


def _target_ports(manifests: Manifests) -> Told:
    for service in manifests.of("Service"):
        for workload in _behind(manifests, service):
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in workload.ports:
                    yield subject(service), f"sends to port {target}, which {workload.subject} does not have"


def _selectors(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        selector = workload.object["spec"].get("selector")
        if workload.serves and not matches(workload.labels, selector or {"matchLabels": {"": ""}}):
            yield workload.subject, f"selects {selector}, its pods have {dict(workload.labels)}"


def _accounts(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        account = workload.pod.get("serviceAccountName", "default")
        if manifests.find("ServiceAccount", workload.namespace, account) is None:
            yield workload.subject, f"names account {account}, which is not there"


def _config_maps(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        for called in _config_map_names(workload):
            if manifests.find("ConfigMap", workload.namespace, called) is None:
                yield workload.subject, f"names ConfigMap {called}, which is not there"


def _config_map_names(workload: Workload) -> Iterator[str]:
    for volume in workload.pod.get("volumes", ()):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            if "configMap" in source:
                yield source["configMap"]["name"]
    for container in workload.all_containers:
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                yield source["configMapRef"]["name"]
        for variable in container.get("env", ()):
            if "configMapKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["configMapKeyRef"]["name"]


def _autoscalers(manifests: Manifests) -> Told:
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        kind, called = scaled(scaler)
        found = manifests.find(kind, namespace(scaler), called)
        if found is None:
            yield subject(scaler), f"scales {kind} {called}, which is not there"
        elif "replicas" in found["spec"]:
            yield subject(scaler), f"scales {kind} {called}, and every apply would set {found['spec']['replicas']} replicas again"


def _least_scaled(manifests: Manifests) -> Told:
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        least = scaler["spec"].get("minReplicas", 1)
        if least < _LEAST_REPLICAS:
            yield subject(scaler), f"goes down to {least} replicas; {_LEAST_REPLICAS} are promised"


def _least_replicas(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        budgets = [one for one in _budgets(manifests) if _covers(one, workload.namespace, workload.labels)]
        count = manifests.replicas(workload)
        if workload.kind == "Deployment" and budgets and count < _LEAST_REPLICAS:
            yield workload.subject, f"has {count} replicas; {_LEAST_REPLICAS} are promised"


def _budgets(manifests: Manifests) -> Iterator[Object]:
    return manifests.of("PodDisruptionBudget")


def _covers(budget: Object, place: str, labels: Any) -> bool:
    return namespace(budget) == place and matches(labels, budget["spec"]["selector"])


def _no_budget(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        several = workload.serves and manifests.replicas(workload) > 1
        if several and not any(_covers(one, workload.namespace, workload.labels) for one in _budgets(manifests)):
            yield workload.subject, "has several pods and no disruption budget: a drain may take all of them at once"


def _budget_allows(manifests: Manifests) -> Told:
    for budget in _budgets(manifests):
        spec = budget["spec"]
        pods = sum(manifests.replicas(one) for one in manifests.workloads if _covers(budget, namespace(budget), one.labels))
        if not pods:
            yield subject(budget), f"covers no pod with {spec['selector']}"
        if str(spec.get("maxUnavailable", 1)) in ("0", "0%") or spec.get("minAvailable", -1) in (pods, "100%"):
            yield subject(budget), "lets no pod go, so no node can be drained"
        if str(spec.get("maxUnavailable", 1)) != "1":
            yield subject(budget), f"lets {spec['maxUnavailable']} pods go at once; one at a time is promised"


def _together(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        apart = workload.pod.get("topologySpreadConstraints") or workload.pod.get("affinity", {}).get("podAntiAffinity")
        if workload.serves and manifests.replicas(workload) > 1 and not apart:
            yield workload.subject, "may have all its pods on one node; spread them"


def _spread(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        for constraint in workload.pod.get("topologySpreadConstraints", ()):
            if not matches(workload.labels, constraint["labelSelector"]):
                yield workload.subject, f"spreads pods with {constraint['labelSelector']}, which its own do not have"
            if constraint["whenUnsatisfiable"] == "DoNotSchedule" and constraint.get("nodeTaintsPolicy") != "Honor":
                yield (
                    workload.subject,
                    "counts lost nodes when it spreads, so a lost pod stays pending; set nodeTaintsPolicy: Honor",
                )


def _updates(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        if workload.kind != "Deployment":
            continue
        strategy = workload.object["spec"].get("strategy", {})
        rolling = strategy.get("rollingUpdate", {})
        if strategy.get("type") != "RollingUpdate" or (rolling.get("maxSurge"), rolling.get("maxUnavailable")) != (1, 0):
            yield workload.subject, f"updates by {dict(strategy)}; take RollingUpdate, one more and none less"


def _arms(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        if workload.labels.get("track", "stable") != "stable" and workload.object["spec"].get("replicas") != 0:
            yield (
                workload.subject,
                f"begins with {workload.object['spec'].get('replicas', 1)} replicas; a rollout begins with none",
            )
    for route in manifests.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            shares = {backend["name"]: backend.get("weight", 1) for backend in rule.get("backendRefs", ())}
            busy = [called for called, weight in shares.items() if called.endswith(("-canary", "-control")) and weight]
            if busy:
                yield subject(route), f"gives {', '.join(busy)} traffic before a rollout begins"


def _routes(manifests: Manifests) -> Told:
    for route in manifests.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", ()):
                yield from _backend(manifests, route, backend["name"], backend["port"])
        for parent in route["spec"]["parentRefs"]:
            if "namespace" not in parent and manifests.find("Gateway", namespace(route), parent["name"]) is None:
                yield subject(route), f"attaches to Gateway {parent['name']}, which is not there"
    for ingress in manifests.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                yield from _backend(manifests, ingress, service["name"], *service["port"].values())


def _backend(manifests: Manifests, route: Object, called: str, port: str | int) -> Told:
    service = manifests.find("Service", namespace(route), called)
    if service is None:
        yield subject(route), f"sends to Service {called}, which is not there"
    elif port not in [known for one in service["spec"]["ports"] for known in (one["port"], one.get("name"))]:
        yield subject(route), f"sends to port {port} of Service {called}, which has no such port"


def _policies_select(manifests: Manifests) -> Told:
    for policy in manifests.of("NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        if not any(one.namespace == namespace(policy) and matches(one.labels, selector) for one in manifests.workloads):
            yield subject(policy), f"selects no pod with {selector}"


def _isolated(manifests: Manifests) -> Told:
    for place in sorted({one.namespace for one in manifests.workloads}):
        denied = {
            kind for policy in manifests.of("NetworkPolicy")
            if namespace(policy) == place and policy["spec"]["podSelector"] == {}
            for kind in policy["spec"].get("policyTypes", ()) if not policy["spec"].get(kind.lower())
        }  # fmt: skip
        if denied != {"Ingress", "Egress"}:
            yield f"Namespace {place}", f"denies {sorted(denied) or 'nothing'} by default; deny Ingress and Egress"


def _open(manifests: Manifests) -> Told:
    for policy in manifests.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            if not rule.get("from") or any(_anybody(peer) for peer in rule["from"]):
                yield subject(policy), "lets everybody in; name who may"
            if not rule.get("ports"):
                yield subject(policy), "opens every port; name those that are meant"
        for rule in policy["spec"].get("egress", ()):
            ports = {port.get("port") for port in rule.get("ports", ())}
            anywhere = not rule.get("to") or any(_anybody(peer) for peer in rule["to"])
            if not ports or (anywhere and not ports <= _ANYWHERE):
                yield subject(policy), f"lets its pods reach anybody at {sorted(map(str, ports)) or 'every port'}; name whom"


def _anybody(peer: Object) -> bool:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"]).endswith("/0")
    return not peer or peer.get("namespaceSelector") == {}


def _admission(manifests: Manifests) -> Told:
    for place in NAMESPACES:
        found = manifests.find("Namespace", "", place)
        level = found["metadata"].get("labels", {}).get(_ENFORCE) if found else None
        if level != "restricted":
            yield f"Namespace {place}", f"enforces Pod Security {level}; restricted is promised"


def _in_namespace(manifests: Manifests) -> Told:
    for thing in manifests.objects:
        if thing["kind"] not in _NO_NAMESPACE and namespace(thing) in ("", "default"):
            yield subject(thing), "is in no namespace of its own"


def _secrets(manifests: Manifests) -> Told:
    for secret in manifests.of("Secret"):
        yield subject(secret), "is written down with its values; secrets are made when the system is"


def _twice(manifests: Manifests) -> Told:
    seen: set[str] = set()
    for thing in manifests.objects:
        if subject(thing) in seen:
            yield subject(thing), "is there twice; the last one wins unseen"
        seen.add(subject(thing))


RULES: dict[str, Rule] = {
    "dangling-service": _services,
    "invalid-target-ports": _target_ports,
    "mismatching-selector": _selectors,
    "non-existent-service-account": _accounts,
    "dangling-config-map": _config_maps,
    "dangling-horizontalpodautoscaler": _autoscalers,
    "hpa-minimum-three-replicas": _least_scaled,
    "minimum-three-replicas": _least_replicas,
    "no-pod-disruption-budget": _no_budget,
    "pdb-max-unavailable": _budget_allows,
    "no-anti-affinity": _together,
    "spread-over-live-nodes": _spread,
    "no-rolling-update-strategy": _updates,
    "dangling-route": _routes,
    "canary-at-rest": _arms,
    "dangling-networkpolicy": _policies_select,
    "non-isolated-pod": _isolated,
    "open-networkpolicy": _open,
    "pod-security": _admission,
    "use-namespace": _in_namespace,
    "committed-secret": _secrets,
    "duplicate-object": _twice,
}
