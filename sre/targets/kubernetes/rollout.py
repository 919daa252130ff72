"""Whether what was applied runs: arithmetic on objects as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sre.errors import CannotRun

# Where the API lists what has to run before a system is up.
LISTS = {
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}


def missing(thing: Mapping[str, Any]) -> str:
    """What an object still waits for, in words; empty when it waits for nothing.

    Raises:
        CannotRun: it has failed for good, so that waiting is no use.
    """
    name, status = f"{thing['kind']} {thing['metadata']['name']}", thing.get("status") or {}
    if thing["kind"] == "Job":
        return _of_job(name, status, thing["spec"])
    if status.get("observedGeneration", 0) < thing["metadata"]["generation"]:
        return f"{name} is not looked at yet"
    wanted = thing["spec"]["replicas"]
    fresh = status.get("updatedReplicas", 0)
    ready = status.get("readyReplicas", 0)
    if min(fresh, ready) < wanted or status.get("replicas", 0) > wanted:
        return f"{name}: {ready} of {wanted} ready, {fresh} of them as applied"
    return ""


def _of_job(name: str, status: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    for condition in status.get("conditions", ()):
        if condition["type"] == "Failed" and condition["status"] == "True":
            raise CannotRun(f"{name} failed: {condition.get('message', 'no reason given')}; see `kubectl logs` of its pods")
    wanted = spec.get("completions", 1)
    done = status.get("succeeded", 0)
    return "" if done >= wanted else f"{name}: {done} of {wanted} completed, {status.get('failed', 0)} failed"
