"""What a canary drill needs of the place where it runs, beside its router: models, addresses, how `sre canary run` finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from sre.drills.base import Context
from sre.drills.world import World
from sre.errors import CannotRun
from sre.faults.model import Place
from sre.readings import Endpoints
from sre.targets.local.target import LocalTarget
from sre.targets.objects import Folder
from sre.targets.registry import Registry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sre.targets.kubernetes.target import KubernetesTarget


class Site(Protocol):
    """A target whose models can be planted with defects.

    Attributes:
        endpoints: where users and observers reach it.
        arguments: of `sre canary run`, which name the target.
        environment: of the same, which says where it was begun from.
    """

    endpoints: Endpoints
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    def models(self) -> AbstractContextManager[Place]:
        """Where its models are, as long as the context lasts."""
        ...

    def versions(self) -> Mapping[str, str]:
        """The version that each replica in production serves."""
        ...


class LocalSite:
    """A system on this machine."""

    arguments: tuple[str, ...] = ()

    def __init__(self, target: LocalTarget) -> None:
        self._target, self.endpoints = target, target.endpoints
        self.environment: Mapping[str, str] = {"SRE_HOME": str(target.layout.home), "SRE_TOOLS": str(target.layout.tools)}

    @contextmanager
    def models(self) -> Iterator[Place]:
        """Its objects are files."""
        yield Place(Folder(self._target.layout.objects), Registry(self.endpoints.mlflow))

    def versions(self) -> Mapping[str, str]:
        """As each says, or why it says none."""
        return self._target.versions()


class ClusterSite:
    """A system on a cluster."""

    def __init__(self, target: KubernetesTarget, endpoints: Endpoints) -> None:
        self._target, self.endpoints = target, endpoints
        self.environment: Mapping[str, str] = {"SRE_HOME": str(target.place.home)}
        # Whoever began the drill has typed the context, if it had to be.
        self.arguments: tuple[str, ...] = ("--target", "kubernetes", "--yes-i-mean", target.place.context)

    @contextmanager
    def models(self) -> Iterator[Place]:
        """Its objects are reached through a port of this machine."""
        with self._target.objects() as objects:
            yield Place(objects, Registry(self.endpoints.mlflow))

    def versions(self) -> Mapping[str, str]:
        """As each says."""
        return self._target.router.versions()


def site_of(context: Context) -> Site:
    """The site of a drill's target.

    Raises:
        CannotRun: nobody knows where that target keeps its models.
    """
    if isinstance(context.target, LocalTarget):
        return LocalSite(context.target)
    if context.target.name == "kubernetes" and isinstance(context.observers, World):
        from sre.targets.kubernetes.target import KubernetesTarget  # noqa: PLC0415 - slow to import

        assert isinstance(context.target, KubernetesTarget)  # noqa: S101 - no other target has this name
        return ClusterSite(context.target, context.observers.endpoints)
    raise CannotRun(f"target {context.target.name} keeps its models elsewhere; the canary drills need target local or kubernetes")
