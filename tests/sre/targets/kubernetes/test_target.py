"""The target over plain API objects, and its hold on real processes: stand-ins for the replicas on the real cluster."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sre.errors import CannotRun, MissingProgram, StepFailed, TargetUnavailable, UsageError
from sre.readings import Replica, Scale
from sre.targets.base import Capability
from sre.targets.certificates import Authority
from sre.targets.kubernetes import target
from sre.targets.kubernetes.access import SECRET
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.place import Place
from sre.targets.kubernetes.router import MARK
from sre.targets.kubernetes.target import KubernetesTarget
from sre.targets.kubernetes.velero import KubernetesVolumes
from tests.cluster import Cluster
from tests.sre.targets.kubernetes.conftest import Served
from tests.sre.targets.kubernetes.objects import pod

DEPLOYMENT = "/apis/apps/v1/namespaces/ml-system/deployments/ml-api"
PODS = "/api/v1/namespaces/ml-system/pods?labelSelector=app.kubernetes.io%2Fname%3Dml-api%2Ctrack%3Dstable"
ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/ml-system/httproutes/ml-api"
READY_WITHIN_S = 90.0


@pytest.fixture
def system(served: Served, place: Place, api: Api) -> KubernetesTarget:
    served.objects |= {
        DEPLOYMENT: {"spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "api", "image": "api:1"}]}}}},
        PODS: {"items": [pod("a", restarts=1), pod("b", runs=False)]},
    }
    return KubernetesTarget(place, api)


def test_replicas_are_there_by_name_and_not_ready_when_they_cannot_be_asked(system: KubernetesTarget) -> None:
    assert system.replicas() == (
        Replica("serving-1", "a00000000000@a", ready=False, restarts=1),
        Replica("serving-2", "", ready=False, restarts=0),
        Replica("serving-3", "", ready=False, restarts=0),
    )


@pytest.mark.parametrize("change", ["kill", "pause", "resume"])
def test_there_must_be_a_replica_and_a_container(system: KubernetesTarget, change: str) -> None:
    with pytest.raises(UsageError, match="'serving-4' does not exist; there are serving-1, serving-2, serving-3"):
        getattr(system, change)("serving-4")
    with pytest.raises(StepFailed, match=r"serving-2 has no container to send signal \d+ to \(pod: b\)"):
        getattr(system, change)("serving-2")
    with pytest.raises(StepFailed, match=r"serving-3 has no container .* \(pod: none\)"):
        getattr(system, change)("serving-3")


def test_what_it_cannot_do_it_says(system: KubernetesTarget) -> None:
    assert system.capabilities == {
        Capability.REPLICAS, Capability.ALERTS, Capability.DATABASE_CLUSTER, Capability.NODES, Capability.PODS,
        Capability.ROLLOUTS, Capability.SCALING, Capability.VOLUME_BACKUPS, Capability.WEIGHTS, Capability.NETWORK,
        Capability.KEYS, Capability.REBUILD,
    }  # fmt: skip
    with pytest.raises(CannotRun, match="apply an overlay with the component autoscale"):
        system.scale()
    with pytest.raises(CannotRun, match="set SRE_NODE_POWER_OFF and SRE_NODE_POWER_OFF_UNDO"):
        system.nodes.check("power-off")
    with pytest.raises(CannotRun, match="use it within `watched`"):
        system.reached()


def test_canary_and_control_can_be_hurt_while_they_are_there(system: KubernetesTarget, served: Served) -> None:
    served.objects |= {
        f"{DEPLOYMENT}-canary": {"metadata": {"annotations": {MARK: "8"}}},
        f"{PODS.rpartition('track')[0]}track+in+%28canary%2Ccontrol%29": {"items": []},
    }
    with pytest.raises(UsageError, match=r"'canary-2' does not exist; there are serving-1, .*, serving-3, canary-1, control-1"):
        system.kill("canary-2")
    with pytest.raises(StepFailed, match=r"canary-1 has no container .* \(pod: none\)"):
        system.kill("canary-1")


def test_the_object_store_is_reached_with_the_keys_of_its_secret(system: KubernetesTarget, served: Served) -> None:
    with pytest.raises(TargetUnavailable, match=f"has nothing at {SECRET}"), system.objects():
        pass
    keys = {key: base64.b64encode(b"x").decode() for key in ("access-key", "secret-key")}
    served.objects[SECRET] = {"data": keys}
    system.place.ca_file.write_bytes(Authority("tests", timedelta(days=1)).pem)
    # No pod of it runs, so its port leads nowhere.
    with system.objects() as objects, pytest.raises(StepFailed, match=r"object b/k of https://localhost:.* cannot be read"):
        objects.get("b", "k")


def test_a_pod_is_deleted_without_grace_or_asked_to_leave(system: KubernetesTarget, served: Served) -> None:
    pod = system.replicas()[0].identity.rpartition("@")[2]
    path = f"/api/v1/namespaces/ml-system/pods/{pod}"
    served.objects |= {f"{path}?gracePeriodSeconds=0": {}, f"{path}/eviction": [429, {}]}
    system.remove("serving-1", "delete")
    with pytest.raises(StepFailed, match=f"a disruption budget holds pod {pod} of serving-1; see `kubectl get pdb -n ml-system`"):
        system.remove("serving-1", "evict")
    system.remove("serving-1", "evict")
    assert [(method, path) for method, path, _, _ in served.changes] == [
        ("DELETE", f"{path}?gracePeriodSeconds=0"),
        ("POST", f"{path}/eviction"),
        ("POST", f"{path}/eviction"),
    ]
    with pytest.raises(StepFailed, match="serving-3 has no pod to evict"):
        system.remove("serving-3", "evict")


def test_a_rollout_makes_every_pod_old(system: KubernetesTarget, served: Served) -> None:
    system.roll_out()
    ((method, path, _, body),) = served.changes
    assert (method, path) == ("PATCH", DEPLOYMENT)
    assert list(body["spec"]["template"]["metadata"]["annotations"]) == ["kubectl.kubernetes.io/restartedAt"]
    del served.objects[DEPLOYMENT]
    with pytest.raises(StepFailed, match="refused PATCH"):
        system.roll_out()


def test_the_scale_is_that_of_the_autoscaler_and_the_deployment(system: KubernetesTarget, served: Served) -> None:
    scaler = "/apis/autoscaling/v2/namespaces/ml-system/horizontalpodautoscalers/ml-api"
    served.objects[scaler] = {"spec": {"minReplicas": 3, "maxReplicas": 6}, "status": {"desiredReplicas": 4}}
    served.objects[DEPLOYMENT] |= {"status": {"readyReplicas": 3}}
    assert system.scale() == Scale(wanted=4, ready=3, least=3, most=6)


def test_commands_for_nodes_come_from_the_settings(
    system: KubernetesTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRE_NODE_CUT", "cut {node}")
    monkeypatch.setenv("SRE_NODE_CUT_UNDO", "join {node}")
    attached = target.attach(system.place.home)
    attached.nodes.check("cut")
    with pytest.raises(CannotRun, match="SRE_NODE_KUBELET"):
        attached.nodes.check("kubelet")


def test_velero_has_to_be_there_and_its_program_too(system: KubernetesTarget, served: Served) -> None:
    with pytest.raises(TargetUnavailable, match="cluster testbed knows no Velero; set SRE_VELERO_URL and SRE_VELERO_CREDENTIALS"):
        _ = system.volumes
    served.objects["/apis/velero.io/v1"] = {"resources": []}
    if shutil.which("velero") is None or shutil.which("kubectl") is None:
        with pytest.raises(MissingProgram, match="install it"):
            _ = system.volumes
        return
    assert isinstance(system.volumes, KubernetesVolumes)


def test_the_description_names_cluster_images_and_versions(system: KubernetesTarget, served: Served) -> None:
    served.objects["/version"] = {"gitVersion": "v1.36.0"}
    node: dict[str, Any] = {"metadata": {"name": "node1"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.0"}}}
    served.objects["/api/v1/nodes"] = {"items": [node]}
    found = system.describe()
    assert (found["target"], found["kubernetes"], found["nodes"]) == ("kubernetes", "v1.36.0", {"node1": "v1.36.0"})
    assert found["images"] == {"api": "api:1"}
    assert "127.0.0.1" not in json.dumps(found)


def test_another_process_attaches_by_the_handle(system: KubernetesTarget, served: Served, tmp_path: Path) -> None:
    kind, _, home = system.handle.partition(":")
    assert kind == "kubernetes"
    assert target.attach(Path(home)).place == system.place
    del served.objects[DEPLOYMENT]
    with pytest.raises(TargetUnavailable, match=f"has nothing at {DEPLOYMENT}"):
        target.attach(Path(home))
    with pytest.raises(TargetUnavailable, match="no system on a cluster was begun from"):
        target.attach(tmp_path / "other")


def test_a_cluster_that_is_gone_is_attached_to_when_it_is_to_be_made_again(
    system: KubernetesTarget, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRE_CLUSTER_CREATE", "true")
    del served.objects[DEPLOYMENT]
    assert target.attach(system.place.home, lost=True).site.identity() == ""
    Path(system.place.kubeconfig).unlink()
    gone = target.attach(system.place.home, lost=True)
    assert gone.site.identity() == ""
    with pytest.raises(TargetUnavailable, match="did not answer"):
        gone.site.holds()
    with pytest.raises(TargetUnavailable, match="no system on a cluster was begun from"):
        target.attach(tmp_path / "other", lost=True)


def test_endpoints_lead_to_the_edge_and_into_the_cluster(system: KubernetesTarget, served: Served) -> None:
    with pytest.raises(TargetUnavailable, match=f"has nothing at {ROUTE}"), system.watched():
        pass
    route: dict[str, Any] = {"metadata": {"namespace": "ml-system"}, "spec": {"parentRefs": [{"name": "edge", "namespace": "e"}]}}
    listeners = [{"name": "http", "protocol": "HTTP", "port": 80}]
    gateway = {"spec": {"listeners": listeners}, "status": {"addresses": [{"value": "10.80.0.64"}]}}
    served.objects |= {ROUTE: route, "/apis/gateway.networking.k8s.io/v1/namespaces/e/gateways/edge": gateway}
    with pytest.raises(TargetUnavailable, match=f"has nothing at {SECRET}"), system.watched():
        pass
    served.objects[SECRET] = {"data": {"drills": "YTpi", "backup": "Yw=="}}
    with system.watched() as endpoints:
        assert system.reached()[1] == endpoints
        assert endpoints.passfile.read_text() == "*:*:*:drills:a\\:b\n*:*:*:backup:c\n"
        assert endpoints.passfile.stat().st_mode & 0o777 == 0o600
        assert endpoints.ingress == "http://10.80.0.64"
        assert endpoints.prometheus.startswith("http://127.0.0.1:")
        assert len({endpoints.prometheus, endpoints.alertmanager, endpoints.mlflow}) == 3
    with system.watched("https://ml.example") as endpoints:
        assert endpoints.ingress == "https://ml.example"
    with pytest.raises(CannotRun, match="use it within `watched`"):
        system.reached()


@pytest.mark.cluster
class TestOnTheCluster:
    """Three stand-ins that answer the readiness check, in a namespace with Pod Security `restricted`."""

    @pytest.fixture
    def real(self, cluster: Cluster, stand_in: str, tmp_path: Path) -> Iterator[KubernetesTarget]:
        api = Api(str(cluster.kubeconfig), None)
        place = Place(tmp_path, str(cluster.kubeconfig), api.context, "dev")
        place.write()
        found = KubernetesTarget(place, api, stand_in)
        _wait(found, lambda replicas: [one.ready for one in replicas] == [True] * 3)
        yield found
        found.close()
        deadline = found.clock.now() + 10
        while any("port forward" in thread.name for thread in threading.enumerate()) and found.clock.now() < deadline:
            found.clock.sleep(0.05)

    def test_a_killed_process_is_replaced_in_the_same_pod(self, real: KubernetesTarget) -> None:
        first, before, last = real.replicas()
        real.kill("serving-2")
        _wait(real, lambda replicas: replicas[1].identity not in {"", before.identity} and replicas[1].ready)
        after = real.replicas()
        assert after[1].restarts == before.restarts + 1
        assert after[1].identity.partition("@")[2] == before.identity.partition("@")[2]
        assert (after[0], after[2]) == (first, last)

    def test_a_frozen_process_is_the_same_and_not_ready_until_it_goes_on(self, real: KubernetesTarget) -> None:
        before = real.replicas()
        real.pause("serving-3")
        frozen = real.replicas()[2]
        assert (frozen.identity, frozen.restarts, frozen.ready) == (before[2].identity, before[2].restarts, False)
        real.resume("serving-3")
        real.resume("serving-3")
        _wait(real, lambda replicas: replicas == before)

    def test_a_deleted_pod_leaves_its_name_to_the_next(self, real: KubernetesTarget, cluster: Cluster, stand_in: str) -> None:
        first, second, third = real.replicas()
        cluster.run("delete", "pod", "-n", stand_in, first.identity.partition("@")[2], "--wait=false")
        _wait(real, lambda replicas: [one.ready for one in replicas] == [True] * 3 and replicas[0].identity != first.identity)
        assert real.replicas()[1:] == (second, third)

    def test_without_a_shared_namespace_of_processes_a_kill_does_not_claim_to_have_worked(
        self, real: KubernetesTarget, cluster: Cluster, stand_in: str
    ) -> None:
        patch = {"spec": {"template": {"spec": {"shareProcessNamespace": False}}}}
        cluster.run("patch", "deployment", "ml-api", "-n", stand_in, "-p", json.dumps(patch))
        cluster.run("rollout", "status", "deployment", "ml-api", "-n", stand_in, f"--timeout={READY_WITHIN_S:.0f}s")
        _wait(real, lambda replicas: [one.ready for one in replicas] == [True] * 3)
        before = real.replicas()
        with pytest.raises(StepFailed, match=r"signal 9 was not sent to serving-1 .*set shareProcessNamespace"):
            real.kill("serving-1")
        assert real.replicas() == before


def _wait(system: KubernetesTarget, condition: Any) -> None:
    deadline = system.clock.now() + READY_WITHIN_S
    while not condition(seen := system.replicas()):
        assert system.clock.now() < deadline, f"not within {READY_WITHIN_S:.0f} s, last seen: {seen}"
        system.clock.sleep(0.2)
