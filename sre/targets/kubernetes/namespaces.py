"""The namespaces of the system on a cluster: what of them runs, how they go, and what users on this machine need of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sre.clock import Clock
from sre.errors import UndoIncomplete
from sre.targets.backups import NAMESPACES, Say
from sre.targets.kubernetes import bodies, rollout, secrets
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.place import Place

GONE_WITHIN_S = 300.0
LOOK_EVERY_S = 2.0


def workloads(api: Api) -> dict[str, str]:
    """Every Deployment and StatefulSet of the system: what it waits for, empty when it waits for nothing."""
    found = {}
    for kind, path in rollout.LISTS.items():
        for namespace in NAMESPACES if kind != "Job" else ():
            for one in api.get(path.format(namespace))["items"]:
                found[f"{namespace}/{one['metadata']['name']}"] = rollout.missing({**one, "kind": kind})
    return found


def there(api: Api) -> list[str]:
    """Those of the system that the cluster has, also while they are going."""
    return [name for name in NAMESPACES if api.find(f"/api/v1/namespaces/{name}") is not None]


def held(api: Api) -> list[dict[str, Any]]:
    """Every Secret in them. Raises TargetUnavailable when one of them is not there."""
    return [one for name in NAMESPACES for one in api.get(f"/api/v1/namespaces/{name}/secrets")["items"]]


def delete(kubectl: Kubectl, api: Api, clock: Clock, say: Say) -> None:
    """Delete them with all that is in them, data too; those that are not there count as deleted.

    Raises:
        UndoIncomplete: they are not gone within the deadline.
    """
    kubectl.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES)
    deadline = clock.now() + GONE_WITHIN_S
    told: set[str] = set()
    while left := there(api):
        tell(told, {f"namespace {name} is going" for name in left}, say)
        if clock.now() > deadline:
            raise UndoIncomplete(f"namespaces {', '.join(left)} are not gone within {GONE_WITHIN_S:.0f} s; see their finalizers")
        clock.sleep(LOOK_EVERY_S)


def hand_out(where: Place, held: Iterable[Mapping[str, Any]]) -> None:
    """Write what users on this machine need into its folder: key, certificate authority, images.

    Args:
        where: the folder.
        held: Secrets, among them `authority` and `drills`.

    Raises:
        StopIteration: they are not.
    """
    held = list(held)
    authority = next(secrets.decoded(one) for one in held if one["metadata"]["name"] == "authority")
    where.ca_file.write_text(authority["ca.crt"], encoding="utf-8")
    where.api_key_file.touch(mode=0o600)
    where.api_key_file.write_text(secrets.drills_key(held), encoding="utf-8")
    bodies.write(where.bodies)


def tell(told: set[str], seen: set[str], say: Say) -> None:
    """Say what was not seen the last time."""
    for line in sorted(seen - told):
        say(line)
    told.clear()
    told.update(seen)
