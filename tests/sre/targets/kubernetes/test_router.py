"""Weights and routes as plain objects; the router over an API server made of a dict. The contract suite has a real cluster."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sre.errors import StepFailed, UsageError
from sre.readings import Replica, Split
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.readiness import Readiness
from sre.targets.kubernetes.router import MARK, WHOLE, KubernetesRouter, shares, there, unsettled, version_of, weighted
from sre.targets.kubernetes.slots import Slot
from sre.targets.simulation import VirtualClock
from tests.sre.targets.kubernetes.conftest import Served
from tests.sre.targets.kubernetes.objects import ending, pod

CANARY = "/apis/apps/v1/namespaces/ml-system/deployments/ml-api-canary"
CONTROL = "/apis/apps/v1/namespaces/ml-system/deployments/ml-api-control"
ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/ml-system/httproutes/ml-api"
PODS = "/api/v1/namespaces/ml-system/pods?labelSelector=app.kubernetes.io%2Fname%3Dml-api%2Ctrack+in+%28canary%2Ccontrol%29"


def rules(stable: int = 100, canary: int = 0, control: int = 0) -> list[dict[str, Any]]:
    """The rule that splits, and the one that does not."""
    weights = {"ml-api": stable, "ml-api-arms-canary": canary, "ml-api-arms-control": control}
    backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    health = {"matches": [{"path": {"value": "/health"}}], "backendRefs": [{"name": "ml-api", "port": 80}]}
    return [{"filters": [{"type": "RequestHeaderModifier"}], "backendRefs": backends}, health]


def route(generation: int = 2, seen: int = 2, *, accepted: str = "True", **weights: int) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": status, "observedGeneration": seen, "message": "why"}
        for kind, status in (("ResolvedRefs", "True"), ("Accepted", accepted))
    ]
    return {
        "metadata": {"generation": generation, "resourceVersion": "77"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": rules(**weights)},
        "status": {"parents": [{"parentRef": {"name": "edge"}, "conditions": conditions}]},
    }


def arm(track: str, name: str, **state: Any) -> Any:
    made = pod(name, **state)
    made["metadata"]["labels"] = {"track": track}
    return made


@pytest.mark.parametrize(
    ("canary", "control", "weights"),
    [(0.0, 0.0, (0, 0, 1000)), (0.1, 0.1, (100, 100, 800)), (0.001, 0.0, (1, 0, 999)), (1.0, 0.0, (1000, 0, 0)),
     (0.5, 0.5, (500, 500, 0)), (0.0005, 0.9995, (0, 1000, 0)), (0.3333, 0.3333, (333, 333, 334))],
)  # fmt: skip
def test_weights_are_whole_numbers_that_add_up(canary: float, control: float, weights: tuple[int, int, int]) -> None:
    before = rules()
    changed = weighted(before, canary, control)
    found = {one["name"]: one["weight"] for one in changed[0]["backendRefs"]}
    assert (found["ml-api-arms-canary"], found["ml-api-arms-control"], found["ml-api"]) == weights
    assert sum(found.values()) == WHOLE
    assert shares(changed) == (weights[0] / WHOLE, weights[1] / WHOLE)
    # All else of the route stays, and what was read is not changed.
    assert (changed[0]["filters"], changed[1]) == (before[0]["filters"], before[1])
    assert before == rules()


def test_shares_are_read_whatever_the_weights_add_up_to() -> None:
    assert shares(rules()) == (0.0, 0.0)
    assert shares(rules(2, 1, 1)) == (0.25, 0.25)
    assert shares(rules(0, 0, 0)) == (0.0, 0.0)
    bare = rules(canary=1)
    del bare[0]["backendRefs"][0]["weight"]
    assert shares(bare) == (0.5, 0.0)


def test_a_route_without_their_backends_splits_nothing() -> None:
    for act in (shares, lambda found: weighted(found, 0.1, 0.1)):
        with pytest.raises(
            StepFailed, match=r"no rule .* has the backends ml-api-arms-canary, ml-api-arms-control; apply an overlay with"
        ):
            act(rules()[1:])


@pytest.mark.parametrize(
    ("found", "seen"),
    [
        (route(), ""),
        (route(3, 2), "at Gateway edge: ResolvedRefs is of an earlier change"),
        (route(accepted="False"), "Accepted is False: why"),
        ({**route(), "status": {}}, "has not looked at it"),
        ({key: value for key, value in route().items() if key != "status"}, "has not looked at it"),
    ],
    ids=["taken", "earlier", "refused", "nobody", "no status"],
)
def test_a_route_is_in_force_when_its_gateway_has_taken_this_generation(found: dict[str, Any], seen: str) -> None:
    assert seen in unsettled(found)
    assert bool(unsettled(found)) == bool(seen)


@pytest.mark.parametrize("answer", [None, b"", b"ok", b"[]", b'{"status": "ready"}', b"7"])
def test_who_tells_no_version_serves_none(answer: bytes | None) -> None:
    assert version_of(answer) == ""


def test_a_version_is_what_a_ready_replica_says() -> None:
    assert version_of(b'{"status": "ready", "model_version": "12"}') == "12"


def test_pods_are_gone_when_none_is_left_not_even_one_that_ends() -> None:
    assert there([]) == ""
    assert there([ending(pod("b")), pod("a")]) == "still there: a, b"


MERGE = "application/merge-patch+json"


def no_way(server: str) -> AbstractContextManager[str]:
    raise AssertionError(f"nobody asks {server}")


@pytest.fixture
def serving() -> dict[str, str]:
    """The version that each pod answers, by its name; no connection leads to others."""
    return {}


@pytest.fixture
def router(api: Api, served: Served, serving: dict[str, str]) -> Iterator[KubernetesRouter]:
    """With a canary that has a tenth of the traffic."""
    opened: list[socket.socket] = []

    def connect(pod: str) -> socket.socket:
        if pod not in serving:
            raise ConnectionRefusedError(pod)
        near, far = socket.socketpair()
        opened.extend((near, far))
        body = json.dumps({"model_version": serving[pod]}).encode()
        far.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return near

    mark = {"metadata": {"resourceVersion": "5", "annotations": {MARK: "8"}}}
    pods = [arm("canary", "c", restarts=1), arm("control", "k"), ending(arm("canary", "old"))]
    served.objects |= {
        CANARY: mark, CONTROL: {}, ROUTE: route(stable=800, canary=100, control=100), PODS: {"items": pods},
    }  # fmt: skip
    readiness = Readiness(connect)
    replicas = [Slot("serving-1", "a", "1@a", 0), Slot("serving-2", "", "", 0)]
    yield KubernetesRouter(api, "ml-system", VirtualClock(), lambda: replicas, no_way, readiness)
    readiness.close()
    for one in opened:
        one.close()


def test_what_there_is_is_read_from_the_cluster(router: KubernetesRouter, serving: dict[str, str]) -> None:
    serving |= {"a": "7", "c": "8"}
    arms = (Replica("canary-1", "c00000000000@c", ready=True, restarts=1), Replica("control-1", "k00000000000@k", False, 0))
    assert router.split() == Split("8", "7", 0.1, 0.1, arms)
    assert router.versions() == {"serving-1": "7", "serving-2": ""}


@pytest.mark.parametrize("found", [404, {"metadata": {}}], ids=["no Deployment", "no mark"])
def test_without_a_mark_there_is_no_canary_and_nothing_is_changed(router: KubernetesRouter, served: Served, found: Any) -> None:
    served.objects[CANARY] = found
    assert router.split() is None
    assert router.arms() == ()
    router.end()
    with pytest.raises(UsageError, match="there is no canary; begin one first"):
        router.shift(0.1, 0.1)
    with pytest.raises(UsageError, match="there is no canary; begin one first"):
        router.promote()
    assert served.changes == []


def test_a_second_canary_is_refused_before_anything_is_changed(router: KubernetesRouter, served: Served) -> None:
    with pytest.raises(UsageError, match="version 8 is a canary already; end it first"):
        router.begin("9")
    assert served.changes == []


def test_a_shift_is_one_change_of_what_was_read_and_waits_for_the_gateway(router: KubernetesRouter, served: Served) -> None:
    served.objects[ROUTE] = [route(), route(), route(3, 2), route(3, 3)]
    router.shift(0.5, 0.5)
    ((method, path, _, body),) = served.changes
    assert (method, path, body["metadata"]) == ("PATCH", ROUTE, {"resourceVersion": "77"})
    assert shares(body["spec"]["rules"]) == (0.5, 0.5)


def test_a_shift_that_no_gateway_takes_says_so(router: KubernetesRouter, served: Served) -> None:
    served.objects[ROUTE] = route(3, 2)
    with pytest.raises(StepFailed, match=r"not within 30 s; last seen: HTTPRoute ml-api at Gateway edge: .* an earlier change"):
        router.shift(0.5, 0.5)


def test_sabotage_a_shift_that_somebody_else_overtook_is_not_done(router: KubernetesRouter, served: Served) -> None:
    served.objects[ROUTE] = [route(), 409]
    with pytest.raises(StepFailed, match=r"refused PATCH .*: 409"):
        router.shift(0.5, 0.5)


def test_shares_that_are_none_change_nothing(router: KubernetesRouter, served: Served) -> None:
    with pytest.raises(UsageError, match="cannot be given"):
        router.shift(0.75, 0.5)
    assert served.changes == []


def test_an_end_takes_traffic_first_then_the_pods_then_the_mark(router: KubernetesRouter, served: Served) -> None:
    served.objects[PODS] = [{"items": [ending(arm("canary", "c"))]}, {"items": []}]
    router.end()
    (first, *rest) = served.changes
    assert (first[1], shares(first[3]["spec"]["rules"])) == (ROUTE, (0.0, 0.0))
    assert rest == [
        ("PATCH", CANARY, MERGE, {"spec": {"replicas": 0}}),
        ("PATCH", CONTROL, MERGE, {"spec": {"replicas": 0}}),
        ("PATCH", CANARY, MERGE, {"metadata": {"annotations": {MARK: None}}}),
    ]


def test_a_canary_whose_pods_stay_is_not_ended_and_keeps_its_mark(router: KubernetesRouter, served: Served) -> None:
    with pytest.raises(StepFailed, match="not within 60 s; last seen: still there: c, k, old"):
        router.end()
    assert not any("annotations" in body.get("metadata", {}) for *_, body in served.changes)
