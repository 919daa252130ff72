"""A canary and its control on a cluster: two Deployments that rest with no replica, and the weights of a route's backends.

What there is of them is read from the cluster each time. An annotation of the canary's Deployment names its version: written
before anything else is changed and taken away last, so that whoever finds it after a crash can end the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import httpx

from sre.clock import Clock
from sre.errors import StepFailed, TargetUnavailable, UsageError
from sre.readings import Split
from sre.targets.base import check_shares
from sre.targets.kubernetes import slots
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.readiness import Readiness
from sre.targets.kubernetes.slots import Slot
from sre.targets.registry import CANDIDATE, PRODUCTION, Registry

CANARY, CONTROL = "canary-1", "control-1"
# By replica: its Deployment, the way to it in the route, and what its pods are labelled with.
DEPLOYMENTS = {CANARY: "ml-api-canary", CONTROL: "ml-api-control"}
BACKENDS = {CANARY: "ml-api-arms-canary", CONTROL: "ml-api-arms-control"}
TRACKS = {CANARY: "canary", CONTROL: "control"}
STABLE = "ml-api"
MARK = "ml-sre/canary"
WHOLE = 1000  # of all weights together
LOOK_EVERY_S = 0.2
# A pod begins within seconds, and Prometheus looks for new names every 5 s; but a name that was not there is remembered for 30 s.
BEGIN_WITHIN_S = 150.0
SHIFTED_WITHIN_S = 30.0
SERVED_WITHIN_S = 90.0
# The grace of a replica's pod is 30 s.
GONE_WITHIN_S = 60.0
_DEPLOYMENT = "/apis/apps/v1/namespaces/{}/deployments/{}"
_ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes/ml-api"
_PODS = "/api/v1/namespaces/{}/pods?labelSelector=app.kubernetes.io%2Fname%3Dml-api%2Ctrack+in+%28canary%2Ccontrol%29"
_UP = 'up{job="serving",track=~"canary|control"}'
_COMPONENT = "apply an overlay with component canary"

Rules = list[dict[str, Any]]
Pods = Sequence[Mapping[str, Any]]


class KubernetesRouter:
    """Splits the traffic of a system on a cluster; see `targets.base.Router`.

    Args:
        api: of the cluster.
        namespace: of the serving replicas.
        clock: that waits use.
        replicas: those in production just now.
        reach: gives the URL of a server inside the cluster, `mlflow` or `prometheus`, as long as the context lasts.
        readiness: asks pods.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is a part of the cluster
        self,
        api: Api,
        namespace: str,
        clock: Clock,
        replicas: Callable[[], Sequence[Slot]],
        reach: Callable[[str], AbstractContextManager[str]],
        readiness: Readiness,
    ) -> None:
        self._api, self._namespace, self._clock, self._replicas = api, namespace, clock, replicas
        self._reach, self._readiness = reach, readiness

    def begin(self, version: str) -> None:
        """Start both; they serve their versions, and Prometheus has counted them at zero, when this returns."""
        canary = self._api.get(self._deployment(CANARY))
        if there := _marked(canary):
            raise UsageError(f"version {there} is a canary already; end it first")
        with self._reach("mlflow") as url:
            registry = Registry(url)
            registry.require(version)
            # Refused when somebody else has changed it meanwhile.
            seen = {"resourceVersion": canary["metadata"]["resourceVersion"]}
            self._patch(self._deployment(CANARY), {"metadata": {**seen, "annotations": {MARK: version}}})
            registry.name(CANDIDATE, version)
        self._scale(1)
        self._await(lambda: self._not_serving({CANARY: version, CONTROL: self._production()}), BEGIN_WITHIN_S)
        # What a counter held when Prometheus first saw it would be lost, so there is no traffic before that.
        since = self._clock.wall()
        with self._reach("prometheus") as url:
            self._await(lambda: self._not_scraped(url, since), BEGIN_WITHIN_S)

    def shift(self, canary: float, control: float) -> None:
        """Change the weights at once, in steps of 0.1 %, and wait until the Gateway has taken them."""
        check_shares(canary, control)
        if not self._begun():
            raise UsageError("there is no canary; begin one first")
        self._put(canary, control)

    def split(self) -> Split | None:
        """Shares as the route has them, versions as the replicas answer."""
        version = self._begun()
        if not version:
            return None
        canary, control = shares(self._route()["spec"]["rules"])
        arms, replicas = self.arms(), self._replicas()
        served = self._served((*arms, *replicas))
        production = next((served[slot.name] for slot in replicas if served[slot.name]), "")
        return Split(version, production, canary, control, tuple(slot.replica(ready=bool(served[slot.name])) for slot in arms))

    def promote(self) -> None:
        """Move the alias, then wait for every replica."""
        version = self._begun()
        if not version:
            raise UsageError("there is no canary; begin one first")
        self._produce(version)

    def demote(self, version: str) -> None:
        """Move the alias back, then wait for every replica."""
        self._produce(version)

    def end(self) -> None:
        """Traffic first, then the pods, which drain. Asks neither registry nor Prometheus: they may be lost."""
        if not self._begun():
            return
        self._put(0.0, 0.0)
        self._scale(0)
        self._await(lambda: there(self._pods()), GONE_WITHIN_S)
        self._patch(self._deployment(CANARY), {"metadata": {"annotations": {MARK: None}}})

    def arms(self) -> tuple[Slot, ...]:
        """Canary and control; none while there is no canary."""
        if not self._begun():
            return ()
        pods = self._pods()
        return tuple(slots.only(name, _of(track, pods)) for name, track in TRACKS.items())

    def versions(self) -> dict[str, str]:
        """The version of the model that each replica in production serves, as it says itself; empty when it is not ready."""
        return self._served(self._replicas())

    def _put(self, canary: float, control: float) -> None:
        route = self._route()
        # Whole rules, because a merge knows no items of a list; refused when somebody else has changed them meanwhile.
        seen = {"resourceVersion": route["metadata"]["resourceVersion"]}
        self._patch(self._route_path, {"metadata": seen, "spec": {"rules": weighted(route["spec"]["rules"], canary, control)}})
        self._await(lambda: unsettled(self._route()), SHIFTED_WITHIN_S)

    def _produce(self, version: str) -> None:
        with self._reach("mlflow") as url:
            registry = Registry(url)
            registry.require(version)
            registry.name(PRODUCTION, version)

        def not_serving() -> str:
            control = {CONTROL} if self._begun() else set()
            return self._not_serving(dict.fromkeys({*control, *(slot.name for slot in self._replicas())}, version))

        self._await(not_serving, SERVED_WITHIN_S)

    def _production(self) -> str:
        return next((version for version in self.versions().values() if version), "")

    def _not_serving(self, wanted: Mapping[str, str]) -> str:
        found = {slot.name: slot for slot in (*self.arms(), *self._replicas())}
        served = self._served(found.values())
        for name, version in sorted(wanted.items()):
            if not served.get(name):
                pod = found[name].pod if name in found else ""
                return f"{name} is not ready; see `kubectl describe -n {self._namespace} pod {pod or 'of ' + name}`"
            if served[name] != version:
                return f"{name} serves version {served[name]}, not {version}"
        return ""

    def _served(self, found: Iterable[Slot]) -> dict[str, str]:
        """The version that each is ready to serve; empty when it is not."""
        asked = {slot.name: (slot.pod, slot.identity) for slot in found}
        alive = [one for one in asked.values() if one[1]]
        answers = dict(zip(alive, self._readiness.answers(alive), strict=True))
        return {name: version_of(answers.get(one)) for name, one in asked.items()}

    def _not_scraped(self, url: str, since: float) -> str:
        wanted = {(track, _label(pod)) for track in TRACKS.values() for pod in _of(track, self._pods())}
        try:
            known, fresh = (_targets(url, query) for query in (_UP, f"timestamp({_UP}) >= {since} and {_UP} == 1"))
        except httpx.HTTPError as error:
            return f"Prometheus: {error!r}"
        if len(wanted) == len(TRACKS) and known == fresh == wanted:
            return ""
        # One that has been ended counts as lost as long as Prometheus looks for it.
        return f"Prometheus has scraped {_words(fresh)} and knows {_words(known)}, of {_words(wanted)}"

    def _scale(self, replicas: int) -> None:
        for name in DEPLOYMENTS:
            self._patch(self._deployment(name), {"spec": {"replicas": replicas}})

    def _begun(self) -> str:
        """Version of the canary; empty while there is none."""
        return _marked(self._api.find(self._deployment(CANARY)) or {"metadata": {}})

    def _pods(self) -> Pods:
        found: Pods = self._api.get(_PODS.format(self._namespace))["items"]
        return found

    @property
    def _route_path(self) -> str:
        return _ROUTE.format(self._namespace)

    def _route(self) -> dict[str, Any]:
        return self._api.get(self._route_path)

    def _deployment(self, name: str) -> str:
        return _DEPLOYMENT.format(self._namespace, DEPLOYMENTS[name])

    def _patch(self, path: str, change: Mapping[str, Any]) -> None:
        self._api.patch(path, change, whole_lists=True)

    def _await(self, trouble: Callable[[], str], within_s: float) -> None:
        deadline = self._clock.now() + within_s
        while True:
            try:
                seen = trouble()
            except TargetUnavailable as error:
                seen = str(error)
            if not seen:
                return
            if self._clock.now() > deadline:
                raise StepFailed(f"not within {within_s:.0f} s; last seen: {seen}")
            self._clock.sleep(LOOK_EVERY_S)


def weighted(rules: Rules, canary: float, control: float) -> Rules:
    """The rules of a route with these shares in each that has backends of canary and control; the others are as before.

    Raises:
        StepFailed: no rule has them.
    """
    changed = deepcopy(rules)
    first = round(canary * WHOLE)
    second = min(round(control * WHOLE), WHOLE - first)
    weights = {BACKENDS[CANARY]: first, BACKENDS[CONTROL]: second, STABLE: WHOLE - first - second}
    for rule in _split(changed):
        for backend in rule["backendRefs"]:
            backend["weight"] = weights[backend["name"]]
    return changed


def shares(rules: Rules) -> tuple[float, float]:
    """Shares of canary and control by the first rule that has them. Raises StepFailed when none has."""
    weights = {backend["name"]: int(backend.get("weight", 1)) for backend in _split(rules)[0]["backendRefs"]}
    total = sum(weights.values()) or 1
    return weights[BACKENDS[CANARY]] / total, weights[BACKENDS[CONTROL]] / total


def unsettled(route: Mapping[str, Any]) -> str:
    """What a route still waits for, in words; empty when every Gateway that it names has taken it as it is now."""
    parents = (route.get("status") or {}).get("parents") or ()
    if len(parents) < len(route["spec"]["parentRefs"]):
        return "a Gateway of HTTPRoute ml-api has not looked at it; see its controller"
    for parent in parents:
        for condition in parent["conditions"]:
            name = f"HTTPRoute ml-api at Gateway {parent['parentRef']['name']}: {condition['type']}"
            if condition.get("observedGeneration", 0) < route["metadata"]["generation"]:
                return f"{name} is of an earlier change"
            if condition["type"] in {"Accepted", "ResolvedRefs"} and condition["status"] != "True":
                return f"{name} is {condition['status']}: {condition.get('message', '')}"
    return ""


def version_of(answer: bytes | None) -> str:
    """The model's version in what a ready replica answers; empty when there is none."""
    try:
        return str(json.loads(answer or b"")["model_version"])
    except (ValueError, KeyError, TypeError):
        return ""


def there(pods: Pods) -> str:
    """Pods that are not gone, in words."""
    return f"still there: {', '.join(sorted(pod['metadata']['name'] for pod in pods))}" if pods else ""


def _split(rules: Rules) -> Rules:
    found = [rule for rule in rules if {*BACKENDS.values(), STABLE} == {one["name"] for one in rule.get("backendRefs", ())}]
    if not found:
        raise StepFailed(f"no rule of HTTPRoute ml-api has the backends {', '.join(BACKENDS.values())}; {_COMPONENT}")
    return found


def _marked(deployment: Mapping[str, Any]) -> str:
    return str((deployment["metadata"].get("annotations") or {}).get(MARK, ""))


def _of(track: str, pods: Pods) -> list[Mapping[str, Any]]:
    return [pod for pod in pods if pod["metadata"]["labels"]["track"] == track]


def _targets(url: str, query: str) -> set[tuple[str, str]]:
    """Track and replica of each series."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=5.0, trust_env=False).raise_for_status()
    return {(series["metric"]["track"], series["metric"]["replica"]) for series in answer.json()["data"]["result"]}


def _label(pod: Mapping[str, Any]) -> str:
    """What Prometheus calls a replica: its address as its name in DNS has it."""
    return str(pod["status"].get("podIP", "")).replace(".", "-").replace(":", "-")


def _words(targets: set[tuple[str, str]]) -> str:
    return ", ".join(f"{track} {replica}" for track, replica in sorted(targets)) or "none"
