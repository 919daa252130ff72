"""Names of replicas. A Deployment's pods are replaced under new names, so a replica is a slot: `serving-2` is whichever pod has
taken the place of the one before. Which pod has which slot is remembered between looks and between processes."""  # noqa: D205, D209 - one thought

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sre.errors import TargetUnavailable
from sre.readings import Replica

CONTAINER = "api"


@dataclass(frozen=True, slots=True)
class Slot:
    """A replica and the pod that fills it.

    Attributes:
        name: `serving-1` and so on.
        pod: its name; empty while there is none.
        identity: of its running container, as in `0123456789ab@POD`; empty while none runs.
        restarts: of the container.
    """

    name: str
    pod: str
    identity: str
    restarts: int

    def replica(self, *, ready: bool) -> Replica:
        """As drills see it."""
        return Replica(self.name, self.identity, ready, self.restarts)


def assign(before: Mapping[str, str], pods: Sequence[Mapping[str, Any]], wanted: int) -> tuple[Slot, ...]:
    """Give every pod a slot.

    A pod keeps its own. A new one takes the lowest slot that is free, oldest pod first. Slots up to `wanted` exist also while no
    pod fills them; more exist while there are more pods, as during a rolling update, and no longer.

    Args:
        before: pods by the name of their slot, as this function left them the last time.
        pods: of the Deployment, as the API gives them; those that are ending do not count.
        wanted: replicas of the Deployment.
    """
    there = {pod["metadata"]["name"]: pod for pod in pods if _counts(pod)}
    filled = {name: pod for name, pod in before.items() if pod in there}
    new = sorted(there.keys() - filled.values(), key=lambda name: (there[name]["metadata"]["creationTimestamp"], name))
    for pod in new:
        filled[_free(filled)] = pod
    if len(filled) <= wanted:
        # A rolling update is over: who began beside those that it replaced takes the place of one of them.
        for beyond in sorted(filled.keys() - set(map(_name, range(1, wanted + 1)))):
            filled[_free(filled)] = filled.pop(beyond)
    names = sorted({*filled, *map(_name, range(1, wanted + 1))}, key=lambda name: int(name.rpartition("-")[2]))
    return tuple(_slot(name, there.get(filled.get(name, ""))) for name in names)


def only(name: str, pods: Sequence[Mapping[str, Any]]) -> Slot:
    """The slot of a Deployment that has one replica at most; the newest of its pods fills it."""
    there = sorted((pod for pod in pods if _counts(pod)), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    return _slot(name, there[-1] if there else None)


def remembered(file: Path, pods: Sequence[Mapping[str, Any]], wanted: int) -> tuple[Slot, ...]:
    """The same, with a file as the memory. Several processes may look at once: a drill, its experiment, `sre status`.

    Raises:
        TargetUnavailable: the file is damaged.
    """
    with file.open("a+", encoding="utf-8") as memory:
        fcntl.flock(memory, fcntl.LOCK_EX)
        memory.seek(0)
        before = _parsed(memory.read(), file)
        slots = assign(before, pods, wanted)
        after = {slot.name: slot.pod for slot in slots if slot.pod}
        if after != before:
            memory.truncate(0)
            memory.write(json.dumps(after))
    return slots


def _parsed(text: str, file: Path) -> dict[str, str]:
    try:
        return {str(name): str(pod) for name, pod in json.loads(text or "{}").items()}
    except (ValueError, AttributeError) as error:
        raise TargetUnavailable(f"{file} is damaged ({error}); delete it, and replicas are named anew") from error


def _free(filled: Mapping[str, str]) -> str:
    return next(name for name in map(_name, count(1)) if name not in filled)


def _name(number: int) -> str:
    return f"serving-{number}"


def _counts(pod: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Pending", "Running")


def _slot(name: str, pod: Mapping[str, Any] | None) -> Slot:
    if pod is None:
        return Slot(name, "", "", 0)
    known = pod["metadata"]["name"]
    container = next((one for one in pod["status"].get("containerStatuses", ()) if one["name"] == CONTAINER), None)
    if container is None:
        return Slot(name, known, "", 0)
    runs = "running" in container.get("state", {})
    number = str(container.get("containerID", "")).rpartition("/")[2][:12]
    return Slot(name, known, f"{number}@{known}" if runs else "", int(container["restartCount"]))
