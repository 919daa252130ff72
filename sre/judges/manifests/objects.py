"""Kubernetes objects as they are parsed from YAML, and the questions that every rule asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

Object = Mapping[str, Any]

# Of the system.
NAMESPACES = ("ml-system", "data", "monitoring")

_TEMPLATES = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}
# Those whose pods serve for as long as they live; the others end.
SERVING = ("Deployment", "StatefulSet", "DaemonSet")


class Finding(NamedTuple):
    """One thing that is not as it must be: the rule, the object, and in words what is wrong and what would be right."""

    rule: str
    subject: str
    what: str


def name(thing: Object) -> str:
    """Name of an object."""
    return str(thing["metadata"]["name"])


def namespace(thing: Object) -> str:
    """Namespace of an object; empty where it has none."""
    return str(thing["metadata"].get("namespace", ""))


def subject(thing: Object) -> str:
    """How messages call it: `Deployment ml-system/ml-api`."""
    place = f"{namespace(thing)}/" if namespace(thing) else ""
    return f"{thing['kind']} {place}{name(thing)}"


@dataclass(frozen=True)
class Workload:
    """Something that makes pods.

    Attributes:
        object: as it was parsed.
        labels: of its pods.
        pod: specification of its pods.
    """

    object: Object
    labels: Mapping[str, str]
    pod: Object

    @property
    def kind(self) -> str:
        """Of the object."""
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        """Of the object."""
        return name(self.object)

    @property
    def namespace(self) -> str:
        """Of the object and its pods."""
        return namespace(self.object)

    @property
    def path(self) -> str:
        """As in `data/postgres`: how ways between workloads call it."""
        return f"{self.namespace}/{self.name}"

    @property
    def subject(self) -> str:
        """How messages call it."""
        return subject(self.object)

    @property
    def serves(self) -> bool:
        """Whether its pods serve for as long as they live."""
        return self.kind in SERVING

    @property
    def containers(self) -> tuple[Object, ...]:
        """Those that live as long as the pod."""
        return tuple(self.pod.get("containers", ()))

    @property
    def all_containers(self) -> tuple[Object, ...]:
        """With those that prepare."""
        return (*self.pod.get("initContainers", ()), *self.containers)

    @property
    def ports(self) -> dict[str | int, int]:
        """Number of each port, by name and by number."""
        found: dict[str | int, int] = {}
        for container in self.containers:
            for port in container.get("ports", ()):
                number = int(port["containerPort"])
                found |= {number: number} | ({port["name"]: number} if "name" in port else {})
        return found


@dataclass(frozen=True)
class Manifests:
    """All objects of one rendering."""

    objects: tuple[Object, ...]

    def of(self, *kinds: str) -> Iterator[Object]:
        """Objects of these kinds, in order."""
        return (thing for thing in self.objects if thing["kind"] in kinds)

    def find(self, kind: str, place: str, called: str) -> Object | None:
        """One object; None where there is none."""
        return next((thing for thing in self.of(kind) if namespace(thing) == place and name(thing) == called), None)

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """Everything that makes pods."""
        return tuple(_workload(thing) for thing in self.objects if thing["kind"] in _TEMPLATES | {"CronJob", "Pod"})

    def selected(self, place: str, selector: Mapping[str, str]) -> tuple[Workload, ...]:
        """Workloads of a namespace whose pods have all these labels."""
        return tuple(one for one in self.workloads if one.namespace == place and has(one.labels, selector))

    def autoscaled(self, workload: Workload) -> Object | None:
        """The autoscaler of a workload; None where there is none."""
        wanted = (workload.kind, workload.name)
        return next((scaler for scaler in self.of("HorizontalPodAutoscaler")
                     if namespace(scaler) == workload.namespace and scaled(scaler) == wanted), None)  # fmt: skip

    def replicas(self, workload: Workload) -> int:
        """How many pods it has at least."""
        scaler = self.autoscaled(workload)
        return int(scaler["spec"].get("minReplicas", 1) if scaler else workload.object["spec"].get("replicas", 1))


def scaled(scaler: Object) -> tuple[str, str]:
    """Kind and name of what an autoscaler scales."""
    reference = scaler["spec"]["scaleTargetRef"]
    return str(reference["kind"]), str(reference["name"])


def has(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether the labels hold everything that is selected by."""
    return all(labels.get(key) == value for key, value in selector.items())


def matches(labels: Mapping[str, str], selector: Object) -> bool:
    """Whether labels match a label selector with labels and expressions; an empty one matches everything.

    Raises:
        ValueError: an operator is none of Kubernetes'.
    """
    return has(labels, selector.get("matchLabels") or {}) and all(
        _holds(labels, expression) for expression in selector.get("matchExpressions") or ()
    )


def _holds(labels: Mapping[str, str], expression: Object) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values", ())
    if operator == "In":
        return bool(labels.get(key) in values)
    if operator == "NotIn":
        return bool(labels.get(key) not in values)
    if operator in ("Exists", "DoesNotExist"):
        return bool((key in labels) == (operator == "Exists"))
    raise ValueError(f"operator {operator!r} of a selector is unknown; use In, NotIn, Exists or DoesNotExist")


def _workload(thing: Object) -> Workload:
    if thing["kind"] == "Pod":
        return Workload(thing, thing["metadata"].get("labels", {}), thing["spec"])
    spec = thing["spec"]["jobTemplate"]["spec"] if thing["kind"] == "CronJob" else thing["spec"]
    template = spec["template"]
    return Workload(thing, template.get("metadata", {}).get("labels", {}), template["spec"])


def parsed(documents: Iterable[Object | None]) -> Manifests:
    """Manifests of parsed YAML documents; empty ones are left out."""
    return Manifests(tuple(document for document in documents if document))
