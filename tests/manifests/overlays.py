"""The overlays as the tests ask for them: rendered and parsed once, and the ways between workloads that are meant to be open."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sre.judges.manifests.flows import Flow
from sre.judges.manifests.objects import Manifests, parsed
from tests.manifests.generated import K8S

_ARMS = ("ml-api", "ml-api-canary", "ml-api-control")
_MINIO, _MLFLOW, _POSTGRES = ("data/minio", 9000), ("data/mlflow", 5000), ("data/postgres", 5432)
# Of the network policies: every way between workloads. Whoever opens another one adds it here.
WAYS: dict[str, tuple[tuple[str, int], ...]] = {
    **{f"ml-system/{arm}": (_POSTGRES, _MLFLOW, _MINIO) for arm in _ARMS},
    "ml-system/ml-api-arms": tuple((f"ml-system/{arm}", 5000) for arm in _ARMS),
    "ml-system/migrate": (_POSTGRES,),
    "ml-system/ml-training": (_MLFLOW, _MINIO),
    "data/postgres": (_POSTGRES, ("data/postgres", 8008), _MINIO),
    "data/postgres-roles": (_POSTGRES,),
    "data/mlflow": (_POSTGRES, _MINIO),
    "data/minio": (_MINIO,),
    "data/buckets": (_MINIO,),
    "monitoring/prometheus": (
        *((f"ml-system/{arm}", 5000) for arm in _ARMS), ("data/postgres", 8008), ("data/postgres", 9187), _MINIO,
        ("monitoring/alertmanager", 9093),
    ),
}  # fmt: skip
# Of the namespaces outside: the proxies of the edge, and the backups.
_EDGES = ("projectcontour", "ingress-nginx")
OUTSIDE = {
    *((edge, f"ml-system/{arm}", 5000) for edge in _EDGES for arm in _ARMS),
    *((edge, "ml-system/ml-api-arms", port) for edge in _EDGES for port in (5001, 5002)),
    ("velero", *_MINIO),
}  # fmt: skip


def allowed(manifests: Manifests) -> frozenset[Flow]:
    """The ways that an overlay should have open; `ml-training-first` is there in dev only and may what the training may."""
    there = {f"{one.namespace}/{one.name}" for one in manifests.workloads}
    ways = {**WAYS, "ml-system/ml-training-first": WAYS["ml-system/ml-training"]}
    return frozenset(Flow(source, *to) for source, found in ways.items() if source in there for to in found)


@cache
def text(overlay: str) -> str:
    """The rendered file."""
    return (K8S / "rendered" / f"{overlay}.yaml").read_text(encoding="utf-8")


def fresh(overlay: str) -> list[dict[str, Any]]:
    """Its objects, parsed anew, so that a test may change them."""
    return [one for one in yaml.load_all(text(overlay), Loader=yaml.CSafeLoader) if one]


@cache
def manifests(overlay: str) -> Manifests:
    """Its objects, shared."""
    return parsed(fresh(overlay))


def kustomizations(folder: Path) -> dict[str, dict[str, Any]]:
    """All that an overlay is made of, by path below k8s/."""
    file = folder / "kustomization.yaml"
    own: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = {str(file.relative_to(K8S)): own}
    for name in (*own.get("resources", ()), *own.get("components", ())):
        if (folder / name).is_dir():
            found |= kustomizations((folder / name).resolve())
    return found
