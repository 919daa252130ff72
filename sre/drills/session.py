"""Drills on a system that runs, here or on a cluster, or on one begun here for a game day and ended after it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from sre.config import Settings
from sre.drills import run
from sre.drills.base import Drill, Options
from sre.drills.catalog import DRILLS, GAME_DAY
from sre.drills.world import World
from sre.targets.base import Capability, Target
from sre.targets.local import target
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S

# A cluster's nodes are other machines, or stand for them: its users do not wait for the processors of this one.
USERS_NICENESS = -10

TargetName = Literal["local", "kubernetes"]


class Narrator(run.Narrator, Protocol):
    """Also tells of changes outside drills."""

    def change(self, line: str) -> None:
        """Something has changed."""
        ...


@contextmanager
def running(settings: Settings, where: TargetName) -> Iterator[tuple[Target, World]]:
    """The system that runs on this machine, or that `sre up --target kubernetes` left on a cluster, and who watches it.

    Raises:
        TargetUnavailable: none runs.
    """
    if where == "local":
        system = target.attach(settings.home, settings.tools)
        yield system, World(system.endpoints, float(SCRAPE_INTERVAL_S), float(ANSWER_TIMEOUT_S))
        return
    from sre.targets.kubernetes import target as kubernetes  # noqa: PLC0415 - slow to import

    on_cluster = kubernetes.attach(settings.home, settings.tools)
    with on_cluster.watched(settings.ingress, settings.ingress_ca) as endpoints:
        scrape_s, answer_s = float(kubernetes.SCRAPE_INTERVAL_S), float(kubernetes.ANSWER_TIMEOUT_S)
        yield on_cluster, World(endpoints, scrape_s, answer_s, USERS_NICENESS)


def on_running(  # noqa: PLR0913 - what the command line says
    settings: Settings, where: TargetName, drills: Sequence[Drill], *, name: str, options: Options, narrator: run.Narrator
) -> run.Finished:
    """Run drills against the system that runs.

    Raises:
        TargetUnavailable: none runs.
        CannotRun: the signing key cannot be used.
    """
    with running(settings, where) as (system, world):
        return _run(settings, drills, system, world, name, options, narrator)


def gameday(  # noqa: PLR0913 - what the command line says
    settings: Settings, where: TargetName, *, options: Options, every: bool, keep: bool, narrator: Narrator
) -> run.Finished:
    """Run the drills of a game day: on a cluster on the system there, here on one that is begun for it unless one runs already.

    Args:
        settings: where everything lies.
        where: the target.
        options: for every drill.
        every: all drills, not one of each kind.
        keep: leave a system that was begun here running.
        narrator: is told of everything.
    """
    begun = False
    if where == "local":
        _, begun = target.up(settings.home, settings.tools, replicas=settings.replicas, say=narrator.change)
    try:
        with running(settings, where) as (system, world):
            wanted = tuple(DRILLS.values()) if every else GAME_DAY
            drills = able(wanted, system.capabilities)
            if left := [kind.name for kind in wanted if kind not in map(type, drills)]:
                narrator.change(f"target {where} cannot do {', '.join(left)}")
            return _run(settings, drills, system, world, "gameday", options, narrator)
    finally:
        if begun and not keep:
            narrator.change("ending the system that was begun for this game day")
            target.down(settings.home)


def able(kinds: Iterable[type[Drill]], capabilities: Collection[Capability]) -> list[Drill]:
    """Those drills that a target can do, new ones."""
    return [kind() for kind in kinds if kind.needs <= set(capabilities)]


def _run(  # noqa: PLR0913, PLR0917 - as above
    settings: Settings, drills: Sequence[Drill], system: Target, world: World, name: str, options: Options, narrator: run.Narrator
) -> run.Finished:
    return run.run(
        drills, system, world, root=settings.evidence, signing_key=settings.signing_key, name=name, options=options,
        narrator=narrator,
    )  # fmt: skip
