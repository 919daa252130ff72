"""The protocols hold no code; what is tested is that mypy and every target agree on them. Behaviour: tests/contract."""

from __future__ import annotations

import pytest

from sre.drills.world import World
from sre.errors import UsageError
from sre.load.worker import LocustLoad
from sre.targets.backups import Site, VolumeBackups
from sre.targets.base import Capability, DatabaseCluster, Load, Nodes, Observers, Router, Target, check_shares
from sre.targets.generator import MemoryLoad
from sre.targets.kubernetes.database import KubernetesDatabase
from sre.targets.kubernetes.nodes import KubernetesNodes
from sre.targets.kubernetes.site import KubernetesSite
from sre.targets.kubernetes.target import KubernetesTarget
from sre.targets.kubernetes.velero import KubernetesVolumes
from sre.targets.local.members import LocalDatabase
from sre.targets.local.router import LocalRouter
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryTarget
from sre.targets.nodes import MemoryNodes
from sre.targets.routing import MemoryRouter
from sre.targets.sites import MemorySite
from sre.targets.volumes import MemoryVolumes
from tests.sre.cluster import Cluster


def test_capabilities_have_the_names_that_messages_show() -> None:
    names = ["replicas", "alerts", "backups", "training", "database-cluster", "weights", "nodes", "pods", "rollouts", "scaling",
             "cables", "stores", "volume-backups", "network", "keys", "rebuild"]  # fmt: skip
    assert [str(capability) for capability in Capability] == names


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        (Target, MemoryTarget),
        (Target, LocalTarget),
        (Target, KubernetesTarget),
        (DatabaseCluster, LocalDatabase),
        (DatabaseCluster, KubernetesDatabase),
        (DatabaseCluster, Cluster),
        (Nodes, MemoryNodes),
        (Nodes, KubernetesNodes),
        (Site, MemorySite),
        (Site, KubernetesSite),
        (VolumeBackups, MemoryVolumes),
        (VolumeBackups, KubernetesVolumes),
        (Router, MemoryRouter),
        (Router, LocalRouter),
        (Observers, MemoryTarget),
        (Observers, World),
        (Load, MemoryLoad),
        (Load, LocustLoad),
    ],
)
def test_every_implementation_has_every_member(protocol: type, kind: type) -> None:
    missing = {name for name in vars(protocol) if not name.startswith("_") and not hasattr(kind, name)}
    assert missing <= {"clock", "volumes", "network", "keys", "site"}  # attributes of the instance


@pytest.mark.parametrize(("canary", "control"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.5), (0.1, 0.9)])
def test_shares_of_the_whole_can_be_given(canary: float, control: float) -> None:
    check_shares(canary, control)


@pytest.mark.parametrize(("canary", "control"), [(-0.1, 0.0), (0.0, -0.1), (1.1, 0.0), (0.6, 0.5), (float("nan"), 0.0)])
def test_what_is_no_share_is_refused(canary: float, control: float) -> None:
    with pytest.raises(UsageError, match="cannot be given; use numbers from 0 to 1 that add up to at most 1"):
        check_shares(canary, control)
