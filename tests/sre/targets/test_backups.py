"""The protocol holds no code; what is tested is that every implementation has all of it. Behaviour: tests/contract."""

from __future__ import annotations

import pytest

from sre.targets.backups import VolumeBackups
from sre.targets.kubernetes.velero import KubernetesVolumes
from sre.targets.volumes import MemoryVolumes


@pytest.mark.parametrize("kind", [MemoryVolumes, KubernetesVolumes])
def test_every_implementation_has_every_member(kind: type) -> None:
    assert {name for name in vars(VolumeBackups) if not name.startswith("_")} <= set(dir(kind))
