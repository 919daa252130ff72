"""What only a cluster has, refused in words that name what to use instead."""

from __future__ import annotations

from sre.errors import CannotRun
from sre.readings import Scale
from sre.targets.backups import Site, VolumeBackups
from sre.targets.base import Nodes, Removal
from sre.targets.network import Network


class Lacking:
    """The part of `targets.base.Target` that a single machine cannot do; each member raises CannotRun."""

    @property
    def nodes(self) -> Nodes:
        """There is only this machine."""
        raise CannotRun("the local target has no nodes to lose; use target kubernetes")

    def remove(self, replica: str, how: Removal) -> None:
        """Its replicas are processes."""
        raise CannotRun(f"the local target has no pod to {how} for {replica}; use target kubernetes")

    def roll_out(self) -> None:
        """Its replicas take a new model without being replaced."""
        raise CannotRun("the local target does not replace its replicas one by one; use target kubernetes")

    def scale(self) -> Scale:
        """It has as many replicas as it was begun with."""
        raise CannotRun("the local target has no autoscaler; use target kubernetes")

    @property
    def volumes(self) -> VolumeBackups:
        """None here: its data are files of one machine. See capability BACKUPS."""
        raise CannotRun("the local target has no namespaces to back up; use target kubernetes")

    @property
    def network(self) -> Network:
        """Nothing to try out: every process of this machine reaches every other."""
        raise CannotRun("the local target has no network policies; use target kubernetes")

    @property
    def site(self) -> Site:
        """None here. See capability BACKUPS."""
        raise CannotRun("the local target is no cluster that could be made again; use target kubernetes")
