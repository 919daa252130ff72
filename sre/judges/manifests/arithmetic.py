"""Whether the times that stand in manifests add up to what is promised. All times are in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sre.judges.manifests.objects import Finding, Manifests, Object, Workload, name, subject
from sre.judges.manifests.pods import UNREACHABLE
from sre.promises import promise

# From the last heartbeat until a node is NotReady (Kubernetes 1.32 and later), and until its taint is acted upon.
NODE_NOTICED_S = 50.0 + 5.0
NODE_LOSS_S = 120.0
# The kubelet makes a container anew.
_CONTAINER_START_S = 2.0
_SERVING = "serving"
# Default of every probe (https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/).
_PROBE = {"periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1}
# Seconds that the service needs for what is under way when it is told to end, and before: see `drain_pause_s` and DRAIN_S.
_DRAIN_S = 21.0
_STEPS = {"scaleUp": (1, 30), "scaleDown": (1, 300)}
_REPLICAS = (3, 20)
_UTILISATION = {"cpu": 70, "memory": 80}
_DAY_S = 86_400
# Of each kind of backup: how many are kept, and how far apart they are made at most.
KEPT = {"daily": (7, _DAY_S), "weekly": (4, 7 * _DAY_S), "monthly": (12, 31 * _DAY_S)}


def recovery_s(container: Object) -> float:
    """From a process that answers nothing to a replica that gets requests again, at the longest.

    Liveness: `failureThreshold` periods and the last timeout; its grace; a new container; what the process may take until the
    startup probe gives up; the next readiness probe. Infinite without a liveness or startup probe.
    """
    if "livenessProbe" not in container or "startupProbe" not in container:
        return float("inf")
    liveness = _PROBE | {"terminationGracePeriodSeconds": 30} | container["livenessProbe"]
    noticed = liveness["periodSeconds"] * liveness["failureThreshold"] + liveness["timeoutSeconds"]
    return float(noticed + liveness["terminationGracePeriodSeconds"]) + _started_s(container)


def node_loss_s(workload: Workload, container: Object) -> float:
    """From the loss of a node to the replacement's first request, at the longest."""
    tolerated = {one.get("key"): one.get("tolerationSeconds") for one in workload.pod.get("tolerations", ())}
    waits = [tolerated.get(key) for key in UNREACHABLE]
    stays = max(300.0 if wait is None else float(wait) for wait in waits)
    return NODE_NOTICED_S + stays + _started_s(container)


def _started_s(container: Object) -> float:
    """From no container to one that gets requests: made, started until its startup probe would give up, asked once more."""
    startup, readiness = (_PROBE | container.get(f"{which}Probe", {}) for which in ("startup", "readiness"))
    up = startup.get("initialDelaySeconds", 0) + startup["periodSeconds"] * startup["failureThreshold"]
    ready = readiness.get("initialDelaySeconds", 0) + readiness["periodSeconds"] * readiness["successThreshold"]
    return _CONTAINER_START_S + float(up + ready)


def check(manifests: Manifests) -> Iterator[Finding]:
    """Everything that does not add up."""
    bound = promise("pod-recovery").bound
    for workload in manifests.workloads:
        if workload.labels.get("app.kubernetes.io/component") != _SERVING:
            continue
        for container in workload.containers:
            if (takes := recovery_s(container)) >= bound:
                yield Finding("pod-recovery", workload.subject, f"may take {takes:g} s to serve again; {bound:g} s are promised")
            if (takes := node_loss_s(workload, container)) >= NODE_LOSS_S:
                what = f"may be gone for {takes:g} s when its node is lost; {NODE_LOSS_S:g} s are promised"
                yield Finding("node-recovery", workload.subject, what)
            yield from _drain(workload, container)
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        yield from _steps(scaler)
    for schedule in manifests.of("Schedule"):
        yield from _kept(schedule)
    yield from _schedules(manifests)


def _drain(workload: Workload, container: Object) -> Iterator[Finding]:
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    grace = workload.pod.get("terminationGracePeriodSeconds", 30)
    if not pause:
        yield Finding("drain", workload.subject, "ends before every node has heard so; let preStop sleep for a while")
    if pause + _DRAIN_S > grace:
        what = f"is killed {grace} s after it was told to end, and needs {pause + _DRAIN_S:g} s for what is under way"
        yield Finding("drain", workload.subject, what)


def _steps(scaler: Object) -> Iterator[Finding]:
    spec = scaler["spec"]
    for direction, wanted in _STEPS.items():
        policies = spec.get("behavior", {}).get(direction, {}).get("policies", ())
        found = [(one["type"], one["value"], one["periodSeconds"]) for one in policies]
        if found != [("Pods", *wanted)]:
            what = f"its {direction} steps are {found or 'the default ones'}; {wanted[0]} pod in {wanted[1]} s is promised"
            yield Finding("autoscaler-steps", subject(scaler), what)
    most = spec["maxReplicas"]
    # A small cluster may stop earlier, never later.
    if spec.get("minReplicas") != _REPLICAS[0] or most > _REPLICAS[1]:
        what = f"keeps {spec.get('minReplicas')} to {most} replicas; {_REPLICAS[0]} to {_REPLICAS[1]} are promised"
        yield Finding("autoscaler-bounds", subject(scaler), what)
    resources = [metric["resource"] for metric in spec["metrics"] if metric["type"] == "Resource"]
    targets: dict[str, Any] = {one["name"]: one["target"].get("averageUtilization") for one in resources}
    if targets != _UTILISATION:
        yield Finding("autoscaler-targets", subject(scaler), f"aims at {targets} %; {_UTILISATION} % is promised")


def _kept(schedule: Object) -> Iterator[Finding]:
    kind = name(schedule).rpartition("-")[2]
    ttl = str(schedule["spec"]["template"].get("ttl", "720h"))
    count, apart = KEPT.get(kind, (0, 0))
    hours = int(ttl.removesuffix("h")) if ttl.removesuffix("h").isdigit() else 0
    if not count or not count * apart <= hours * 3600 < (count + 1) * apart:
        what = f"keeps its backups for {ttl}; {count} {kind} ones take {count * apart // 3600}h"
        yield Finding("backup-retention", subject(schedule), what)


def _schedules(manifests: Manifests) -> Iterator[Finding]:
    found = {name(schedule).rpartition("-")[2] for schedule in manifests.of("Schedule")}
    if found and found != set(KEPT):
        yield Finding("backup-retention", "schedules", f"there are {sorted(found)}; {sorted(KEPT)} are promised")
