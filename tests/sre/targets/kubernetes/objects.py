"""Objects as the API gives them, with no more than is read."""

from __future__ import annotations

from typing import Any


def pod(name: str, *, born: str = "2026-01-01T00:00:00Z", restarts: int = 0, runs: bool = True, phase: str = "Running") -> Any:
    """A pod of Deployment ml-api; its container's id is made of its name."""
    state = {"running": {"startedAt": born}} if runs else {"terminated": {"exitCode": 137}}
    container = {"name": "api", "state": state, "restartCount": restarts, "containerID": f"containerd://{name:0<64}"}
    sidecar = {"name": "other", "state": {"running": {}}, "restartCount": 9, "containerID": "containerd://other"}
    return {
        "metadata": {"name": name, "creationTimestamp": born},
        "status": {"phase": phase, "containerStatuses": [sidecar, container]},
    }


def ending(thing: Any) -> Any:
    """The same while it is being deleted."""
    return {**thing, "metadata": {**thing["metadata"], "deletionTimestamp": "2026-01-01T00:00:09Z"}}
