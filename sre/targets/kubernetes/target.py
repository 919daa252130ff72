"""The Kubernetes target: the system of a cluster as drills see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from socket import socket
from typing import Any

from sre.clock import Clock, SystemClock, iso
from sre.config import Settings
from sre.errors import CannotRun, StepFailed, TargetUnavailable, UsageError
from sre.judges.manifests.objects import Manifests, parsed
from sre.readings import Endpoints, Replica, Scale
from sre.targets.backups import Site, VolumeBackups
from sre.targets.base import Capability, Nodes, Removal
from sre.targets.kubernetes import edge, nodes, place, secrets, slots, velero
from sre.targets.kubernetes.access import SECRET, Access
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.database import KubernetesDatabase
from sre.targets.kubernetes.forward import Forward
from sre.targets.kubernetes.keys import KubernetesKeys
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.network import NO_PROBE, KubernetesNetwork
from sre.targets.kubernetes.nodes import NO_COMMANDS, Commands, KubernetesNodes
from sre.targets.kubernetes.place import OVERLAYS, Place
from sre.targets.kubernetes.readiness import Readiness
from sre.targets.kubernetes.router import KubernetesRouter
from sre.targets.kubernetes.site import KubernetesSite, Means
from sre.targets.kubernetes.velero_install import store_of
from sre.targets.objects import S3

NAMESPACE = "ml-system"
_DEPLOYMENT = "/apis/apps/v1/namespaces/{}/deployments/ml-api"
_AUTOSCALER = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/ml-api"
_PODS = "/api/v1/namespaces/{}/pods?labelSelector=app.kubernetes.io%2Fname%3Dml-api%2Ctrack%3Dstable"
_POD = "/api/v1/namespaces/{}/pods/{}?gracePeriodSeconds=0"
PORT = 5000
# Of k8s/base/monitoring/prometheus.yml, and of backendRequest in k8s/base/edge/route.yaml.
SCRAPE_INTERVAL_S = 2
ANSWER_TIMEOUT_S = 5
# Servers that this machine reaches: namespace and port of their pods.
_SERVERS = {
    "prometheus": ("monitoring", 9090), "alertmanager": ("monitoring", 9093), "mlflow": ("data", 5000), "minio": ("data", 9000),
}  # fmt: skip
_WATCHED = ("prometheus", "alertmanager", "mlflow")
# Sends a signal to the container's own process from inside: the one that no process of the pod began, and the oldest such, since
# this command is another. The first process of a namespace is out of reach: the kernel drops what its own send it.
_SIGNAL = r"""
for process in /proc/[0-9]*; do
  read -r line 2>/dev/null < "$process/stat" || continue
  pid=${process#/proc/}
  set -- "$1" ${line##*) }
  [ "$3" = 0 ] && [ "$pid" != 1 ] && [ "$pid" != $$ ] || continue
  [ -z "$oldest" ] || [ "${21}" -lt "$oldest" ] && oldest=${21} found=$pid
done
[ -n "$found" ] || { echo "the process is the first of its namespace; set shareProcessNamespace in its pod" >&2; exit 1; }
echo "signal to $found"
kill -"$1" "$found"
"""
_KILL, _STOP, _CONTINUE = 9, 19, 18
_KILLED = 128 + _KILL


class KubernetesTarget:
    """A system that runs on a cluster.

    Args:
        where: what was begun there.
        api: of the cluster.
        namespace: of the serving replicas.
        tools: folder of unpacked programs, where PATH holds none.
        commands: that lose a node and bring it back; see `nodes.KubernetesNodes`.
        means: by what the cluster is lost and made again.
    """

    name = "kubernetes"
    capabilities = frozenset({
        Capability.REPLICAS, Capability.ALERTS, Capability.DATABASE_CLUSTER, Capability.NODES, Capability.PODS,
        Capability.ROLLOUTS, Capability.SCALING, Capability.VOLUME_BACKUPS, Capability.WEIGHTS, Capability.NETWORK,
        Capability.KEYS, Capability.REBUILD,
    })  # fmt: skip

    def __init__(  # noqa: PLR0913 - what the settings say
        self, where: Place, api: Api, namespace: str = NAMESPACE, *, tools: Path = Path(), commands: Commands = NO_COMMANDS,
        means: Means | None = None,
    ) -> None:  # fmt: skip
        self.place = where
        self.clock: Clock = SystemClock()
        self.api = api
        self._reached: tuple[Access, Endpoints] | None = None
        means = means or Means()
        self._ingress = means.ingress
        self._namespace, self._tools = namespace, tools
        self._site = KubernetesSite(api, where, tools, means, self.objects)
        self._nodes = KubernetesNodes(api, self.clock, commands, self._slots)
        self._readiness, versions = (Readiness(lambda pod: api.connect(namespace, pod, PORT)) for _ in range(2))
        # A second set of connections: each set keeps those to the replicas that it was last asked about.
        self._router = KubernetesRouter(api, namespace, self.clock, self._slots, self.reach, versions)
        self._kept = (self._readiness, versions)
        self._network = KubernetesNetwork(api, self._rendered, lambda: self._container()["image"])

    @property
    def handle(self) -> str:
        """`kubernetes:HOME`, for `attach` in another process."""
        return f"{self.name}:{self.place.home}"

    def describe(self) -> Mapping[str, Any]:
        """The cluster and what was applied to it; no address of an API server, no credential."""
        server = self.api.get("/version")
        nodes = self.api.get("/api/v1/nodes")["items"]
        deployment = self._deployment()
        return {
            "target": self.name,
            "context": self.place.context,
            "overlay": self.place.overlay,
            "kubernetes": server["gitVersion"],
            "nodes": {node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes},
            "replicas": deployment["spec"]["replicas"],
            "images": {one["name"]: one["image"] for one in deployment["spec"]["template"]["spec"]["containers"]},
            "packages": {package: version(package) for package in ("kubernetes", "locust", "chaostoolkit", "chaostoolkit-lib")},
        }

    def replicas(self) -> tuple[Replica, ...]:
        """All replicas: the container as the API server knows it, readiness as each answers it right now."""
        found = self._slots()
        asked = [(slot.pod, slot.identity) for slot in found if slot.identity]
        ready = dict(zip(asked, self._readiness.ask(asked), strict=True))
        return tuple(slot.replica(ready=ready.get((slot.pod, slot.identity), False)) for slot in found)

    @property
    def database(self) -> KubernetesDatabase:
        """The database cluster."""
        return KubernetesDatabase(self.api, self.place.ca_file)

    @property
    def router(self) -> KubernetesRouter:
        """Who splits the traffic."""
        return self._router

    @property
    def nodes(self) -> Nodes:
        """The nodes of the cluster."""
        return self._nodes

    def remove(self, replica: str, how: Removal) -> None:
        """Delete its pod without grace, or ask for its eviction."""
        slot = self._known(replica)
        if not slot.pod:
            raise StepFailed(f"{replica} has no pod to {how}")
        if how == "delete":
            self.api.delete(_POD.format(self._namespace, slot.pod))
        elif nodes.evict(self.api, self._namespace, slot.pod) == nodes.TOO_MANY:
            raise StepFailed(f"a disruption budget holds pod {slot.pod} of {replica}; see `kubectl get pdb -n {self._namespace}`")

    def roll_out(self) -> None:
        """Restart the Deployment as `kubectl rollout restart` does: its template gets the time, so that every pod is old."""
        stamp = {"kubectl.kubernetes.io/restartedAt": iso(self.clock.wall())}
        changed = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        self.api.patch(_DEPLOYMENT.format(self._namespace), changed)

    def scale(self) -> Scale:
        """Of the Deployment and its HorizontalPodAutoscaler. Raises CannotRun where the overlay has none."""
        scaler = self.api.find(_AUTOSCALER.format(self._namespace))
        if scaler is None:
            raise CannotRun("nothing scales ml-api here; apply an overlay with the component autoscale")
        return Scale(
            wanted=scaler.get("status", {}).get("desiredReplicas", 0),
            ready=self._deployment().get("status", {}).get("readyReplicas", 0),
            least=scaler["spec"].get("minReplicas", 1),
            most=scaler["spec"]["maxReplicas"],
        )

    @property
    def volumes(self) -> VolumeBackups:
        """Velero. Raises TargetUnavailable where it is not installed, MissingProgram without its program."""
        return velero.of(self.api, self._tools, self.place.kubeconfig)

    @property
    def network(self) -> KubernetesNetwork:
        """Who can reach whom."""
        return self._network

    @property
    def keys(self) -> KubernetesKeys:
        """The API keys that replicas accept."""
        return KubernetesKeys(self.api, self._namespace, self._slots, lambda pod: self.api.connect(self._namespace, pod, PORT))

    def ingress(self) -> str:
        """Base URL of the edge as the cluster has it just now. Raises TargetUnavailable when it has none."""
        return self._ingress or edge.address(self.api)

    @property
    def site(self) -> Site:
        """The cluster as a whole."""
        return self._site

    def kill(self, replica: str) -> None:
        """SIGKILL of the process in its container; the pod stays. Raises StepFailed when it was not sent."""
        self._signal(replica, _KILL)

    def pause(self, replica: str) -> None:
        """SIGSTOP: the kernel still accepts connections for it, and nothing is answered, until the liveness probe ends it."""
        self._signal(replica, _STOP)

    def resume(self, replica: str) -> None:
        """SIGCONT."""
        self._signal(replica, _CONTINUE)

    def _signal(self, replica: str, number: int) -> None:
        slot = self._known(replica)
        if not slot.identity:
            raise StepFailed(f"{replica} has no container to send signal {number} to (pod: {slot.pod or 'none'})")
        ended = self.api.run(self._namespace, slot.pod, slots.CONTAINER, ["sh", "-c", _SIGNAL, "signal", str(number)])
        # A container that ends takes the command in it along.
        gone = number == _KILL and ended.code in (None, _KILLED) and ended.output.startswith("signal to")
        if ended.code != 0 and not gone:
            raise StepFailed(f"signal {number} was not sent to {replica} (status {ended.code}): {ended.output.strip()[-300:]}")

    def _known(self, replica: str) -> slots.Slot:
        found = {slot.name: slot for slot in (*self._slots(), *self._router.arms())}
        if replica not in found:
            raise UsageError(f"replica {replica!r} does not exist; there are {', '.join(found)}")
        return found[replica]

    def _slots(self) -> tuple[slots.Slot, ...]:
        pods = self.api.get(_PODS.format(self._namespace))["items"]
        return slots.remembered(self.place.slots, pods, self._deployment()["spec"]["replicas"])

    def _rendered(self) -> Manifests:
        kubectl = Kubectl(self._tools, self.place.kubeconfig, self.place.context)
        return parsed(kubectl.render(OVERLAYS / self.place.overlay))

    def _container(self) -> dict[str, Any]:
        containers = self._deployment()["spec"]["template"]["spec"]["containers"]
        return next(one for one in containers if one["name"] == slots.CONTAINER)

    def _deployment(self) -> dict[str, Any]:
        return self.api.get(_DEPLOYMENT.format(self._namespace))

    def close(self) -> None:
        """Give up the connections to replicas that are kept between looks."""
        for readiness in self._kept:
            readiness.close()

    @contextmanager
    def watched(self, ingress: str | None = None, ingress_ca: Path | None = None) -> Iterator[Endpoints]:
        """Where users and observers reach the system, as long as the context lasts.

        Args:
            ingress: base URL of the edge; found from the cluster when None.
            ingress_ca: certificates to verify it with; the system's own authority when None.

        Raises:
            TargetUnavailable: the edge has no address, or the database no passwords.
        """
        self._ingress = ingress
        base = self.ingress()
        with ExitStack() as opened:
            urls = {name: opened.enter_context(self.reach(name)) for name in _WATCHED}
            access = Access(self.api, self.place)
            opened.callback(access.close)
            endpoints = Endpoints(
                ingress=base, ca_file=ingress_ca or self.place.ca_file, api_key_file=self.place.api_key_file,
                bodies=self.place.bodies, database=access.dsn("backup", "predictions"), passfile=access.passfile, **urls,
            )  # fmt: skip
            self._reached = access, endpoints
            opened.callback(setattr, self, "_reached", None)
            yield endpoints

    def reached(self) -> tuple[Access, Endpoints]:
        """How clients of the database reach it, and where everything else is.

        Raises:
            CannotRun: nobody watches the target, so no port leads into it.
        """
        if self._reached is None:
            raise CannotRun("no port of this machine leads into the cluster's database; use it within `watched`")
        return self._reached

    @contextmanager
    def reach(self, server: str) -> Iterator[str]:
        """A URL of this machine for a server inside the cluster, as long as the context lasts."""
        with closing(Forward(partial(self._to, server))) as forward:
            yield forward.url

    @contextmanager
    def objects(self) -> Iterator[S3]:
        """The object store, as long as the context lasts.

        Raises:
            TargetUnavailable: the account's keys cannot be read from their Secret.
        """
        keys = secrets.decoded(self.api.get(SECRET))
        with closing(Forward(partial(self._to, "minio"))) as forward:
            # Its certificate has this name.
            yield S3(f"https://localhost:{forward.port}", self.place.ca_file, keys["access-key"], keys["secret-key"])

    def _to(self, server: str) -> socket:
        namespace, port = _SERVERS[server]
        try:
            selected = f"?labelSelector=app.kubernetes.io%2Fname%3D{server}{NO_PROBE}"
            pods = self.api.get(f"/api/v1/namespaces/{namespace}/pods{selected}")["items"]
        except TargetUnavailable as error:
            raise ConnectionError(str(error)) from error
        running = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"]
        if not running:
            raise ConnectionError(f"no pod of {server} runs")
        return self.api.connect(namespace, running[0], port)


def attach(home: Path, tools: Path = Path(), *, lost: bool = False) -> KubernetesTarget:
    """The system of the cluster that was begun from a home.

    Args:
        home: SRE_HOME.
        tools: folder of unpacked programs, where PATH holds none.
        lost: whether the cluster may be gone, to be made again.

    Raises:
        TargetUnavailable: none was begun, or, unless it may be lost, it does not answer or holds no Deployment ml-api.
    """
    found = place.read(home)
    if found is None:
        raise TargetUnavailable(f"no system on a cluster was begun from {home}; run `sre up --target kubernetes`")
    if lost:
        return of(found, Api(found.kubeconfig, found.context, lost=True), tools)
    api = Api(found.kubeconfig, found.context)
    api.get(_DEPLOYMENT.format(NAMESPACE))
    return of(found, api, tools)


def of(found: Place, api: Api, tools: Path) -> KubernetesTarget:
    """The system of a cluster, with the means that the settings name."""
    settings = Settings()
    commands = {
        "power-off": (settings.node_power_off, settings.node_power_off_undo),
        "cut": (settings.node_cut, settings.node_cut_undo),
        "kubelet": (settings.node_kubelet, settings.node_kubelet_undo),
    }
    store = store_of(settings)
    means = Means(settings.cluster_destroy, settings.cluster_create, store, settings.off_site_bucket, settings.ingress)
    return KubernetesTarget(found, api, tools=tools, commands=commands, means=means)
