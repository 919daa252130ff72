"""Every way that is meant to be open between workloads. Policies are held against it as they are written and as they work."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sre.judges.manifests.flows import Flow

_ARMS = ("ml-api", "ml-api-canary", "ml-api-control")
_MINIO, _MLFLOW, _POSTGRES = ("data/minio", 9000), ("data/mlflow", 5000), ("data/postgres", 5432)
_TRAINING = (_MLFLOW, _MINIO)
# Whoever opens another one adds it here.
WAYS: Mapping[str, tuple[tuple[str, int], ...]] = {
    **{f"ml-system/{arm}": (_POSTGRES, _MLFLOW, _MINIO) for arm in _ARMS},
    "ml-system/ml-api-arms": tuple((f"ml-system/{arm}", 5000) for arm in _ARMS),
    "ml-system/migrate": (_POSTGRES,),
    "ml-system/ml-training": _TRAINING,
    "ml-system/ml-training-first": _TRAINING,
    "data/postgres": (_POSTGRES, ("data/postgres", 8008), _MINIO),
    "data/postgres-roles": (_POSTGRES,),
    "data/mlflow": (_POSTGRES, _MINIO),
    "data/minio": (_MINIO,),
    "data/buckets": (_MINIO,),
    "data/drill-database-restore": (_MINIO,),
    "monitoring/prometheus": (
        *((f"ml-system/{arm}", 5000) for arm in _ARMS), ("data/postgres", 8008), ("data/postgres", 9187),
        ("data/postgres", 9854), _MINIO, ("monitoring/alertmanager", 9093), ("monitoring/kube-state-metrics", 8080),
    ),
}  # fmt: skip
# What only some overlays have.
SOMETIMES = frozenset({"ml-system/ml-training-first", "data/drill-database-restore"})
# Of the namespaces outside: the proxies of the edge, and the backups.
_EDGES = ("projectcontour", "ingress-nginx")
OUTSIDE: frozenset[tuple[str, str, int]] = frozenset({
    *((edge, f"ml-system/{arm}", 5000) for edge in _EDGES for arm in _ARMS),
    *((edge, "ml-system/ml-api-arms", port) for edge in _EDGES for port in (5001, 5002)),
    ("velero", *_MINIO),
})  # fmt: skip
# A pod of a namespace outside, and one of a namespace that has no way in.
GUEST = "guest"
STRANGER = f"default/{GUEST}"
# What no workload is: names, the API server, agents of other nodes, the address where clouds give out credentials, any other pod.
BEYOND = "beyond"
DNS, API_SERVER = f"{BEYOND}/dns", f"{BEYOND}/api-server"
NODE, METADATA, ELSEWHERE = f"{BEYOND}/node", f"{BEYOND}/metadata", f"{BEYOND}/elsewhere"
# Patroni keeps its agreement there, metrics are made of what it knows, and a drill works through it.
_TO_API_SERVER = frozenset({"data/postgres", "monitoring/kube-state-metrics", "monitoring/drill-pod-recovery"})


def allowed(workloads: Collection[str]) -> frozenset[Flow]:
    """Every way from those of these workloads, as `namespace/name`, that should be open; guests among them too."""
    inside = {Flow(source, *to) for source, found in WAYS.items() for to in found}
    outside = {Flow(f"{place}/{GUEST}", to, port) for place, to, port in OUTSIDE}
    return frozenset(way for way in inside | outside if way.source in workloads)


def between(workloads: Collection[str]) -> frozenset[Flow]:
    """The same, to those that are there too: not every overlay has everything."""
    return frozenset(way for way in allowed(workloads) if way.to in workloads)


def may(way: Flow, listed: Collection[Flow]) -> bool:
    """Whether a way should be open: it is listed, or leads to what is beyond the workloads and whoever takes it needs that."""
    if way.to == DNS:
        return True
    if way.to == API_SERVER:
        return way.source in _TO_API_SERVER
    return way in listed
