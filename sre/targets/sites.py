"""The memory target as a whole cluster that is lost and made again, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sre.errors import StepFailed
from sre.targets.backups import NAMESPACES, Say
from sre.targets.simulation import VirtualClock
from sre.targets.volumes import MemoryVolumes


class SiteBehaviour(Protocol):
    """How a simulated site behaves; see `memory.Behaviour`."""

    faults_work: bool
    rebuildable: bool
    store_outside: bool
    create_s: float
    system_s: float
    rebuild_alters: bool
    rebuild_keys: bool


_OBJECTS: Mapping[str, str] = {
    "ml-models-production/1/model.onnx": "6d0de1", "ml-datasets/train.npz": "da7a5e",
    "ml-backups/pgbackrest/archive/ml/archive.info": "1f0",
}  # fmt: skip
_DOORS = ("api.invalid:6443", "edge.invalid:443")


class MemorySite:
    """See `targets.base.Site`; what is in its namespaces is kept by `MemoryVolumes`."""

    def __init__(self, clock: VirtualClock, behaviour: SiteBehaviour, volumes: MemoryVolumes) -> None:
        self._clock, self._behaviour, self._volumes = clock, behaviour, volumes
        self._number, self._there = 1, True
        self.made: list[str] = []

    def trouble(self) -> str:
        """Commands and store."""
        if not self._behaviour.rebuildable:
            return "nothing is known that can end the cluster and make an empty one"
        return "" if self._behaviour.store_outside else "the store is inside the cluster, and is lost with it"

    def doors(self) -> tuple[str, ...]:
        """Two."""
        return _DOORS

    def answering(self, doors: Sequence[str]) -> str:
        """All or none."""
        return ", ".join(doors) if self._there else ""

    def identity(self) -> str:
        """By number."""
        return f"cluster-{self._number}" if self._there else ""

    def holds(self) -> str:
        """Those that were never lost, or were brought back."""
        return self._volumes.left("", NAMESPACES)

    def contents(self) -> dict[str, str]:
        """Three objects, one of them altered after a rebuild that alters."""
        if self.missing():
            raise StepFailed("the object store does not answer")
        altered = {"ml-datasets/train.npz": "0dd"} if self._behaviour.rebuild_alters and self._number > 1 else {}
        return {**_OBJECTS, **altered}

    def archive(self) -> str:
        """There is one."""
        return "20260101-000000F"

    def destroy(self) -> None:
        """At once."""
        self.made.append("destroy")
        if self._behaviour.faults_work:
            self._there = False
            self._volumes.lose()

    def create(self) -> None:
        """Takes `create_s`; one that is there stays."""
        self.made.append("create")
        if not self._there:
            self._clock.sleep(self._behaviour.create_s)
            self._there, self._number = True, self._number + 1

    def install(self, say: Say) -> None:
        """At once; the backups are known after a while."""
        say("velero")
        self._volumes.install()

    def clear(self, say: Say) -> None:
        """At once."""
        if there := self.holds():
            say(f"{there} goes")
        self._volumes.clear(NAMESPACES)

    def missing(self) -> str:
        """The namespaces, and `system_s` for what is in them."""
        pods = self._volumes.living(NAMESPACES, items=False).pods
        if not self._there or not pods:
            return "no workload is there"
        since = max(self._volumes.ready_at(name) for name in NAMESPACES) + self._behaviour.system_s * (self._number > 1)
        return "" if self._clock.now() >= since else "data/postgres: 0 of 3 ready"

    def misfits(self) -> str:
        """None, unless the keys are other ones."""
        return "" if self._behaviour.rebuild_keys or self._number == 1 else "the certificate authority is another one"
