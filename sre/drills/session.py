"""Drills on a system that runs, here or on a cluster, or on one begun here for a game day and ended after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sre.config import Settings
from sre.drills import run
from sre.drills.base import Drill, Options
from sre.drills.catalog import GAME_DAY
from sre.drills.world import World
from sre.targets.local import target
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S


class Narrator(run.Narrator, Protocol):
    """Also tells of changes outside drills."""

    def change(self, line: str) -> None:
        """Something has changed."""
        ...


def on_running(
    settings: Settings, drills: Sequence[Drill], *, name: str, options: Options, narrator: run.Narrator
) -> run.Finished:
    """Run drills against the system that runs.

    Raises:
        TargetUnavailable: none runs.
        CannotRun: the signing key cannot be used.
    """
    system = target.attach(settings.home, settings.tools)
    world = World(system.endpoints, float(SCRAPE_INTERVAL_S), float(ANSWER_TIMEOUT_S))
    return run.run(
        drills, system, world, root=settings.evidence, signing_key=settings.signing_key, name=name, options=options,
        narrator=narrator,
    )  # fmt: skip


def on_cluster(
    settings: Settings, drills: Sequence[Drill], *, name: str, options: Options, narrator: run.Narrator
) -> run.Finished:
    """The same on the cluster that `sre up --target kubernetes` left a system on."""
    from sre.targets.kubernetes import target as kubernetes  # noqa: PLC0415 - slow to import

    system = kubernetes.attach(settings.home, settings.tools)
    with system.watched(settings.ingress) as endpoints:
        world = World(endpoints, float(kubernetes.SCRAPE_INTERVAL_S), float(kubernetes.ANSWER_TIMEOUT_S))
        return run.run(
            drills, system, world, root=settings.evidence, signing_key=settings.signing_key, name=name, options=options,
            narrator=narrator,
        )  # fmt: skip


def gameday(settings: Settings, *, options: Options, keep: bool, narrator: Narrator) -> run.Finished:
    """Run the drills of a game day, on a system begun for it unless one runs already.

    Args:
        settings: where everything lies.
        options: for every drill.
        keep: leave a system that was begun here running.
        narrator: is told of everything.
    """
    _, begun = target.up(settings.home, settings.tools, replicas=settings.replicas, say=narrator.change)
    try:
        return on_running(settings, [kind() for kind in GAME_DAY], name="gameday", options=options, narrator=narrator)
    finally:
        if begun and not keep:
            narrator.change("ending the system that was begun for this game day")
            target.down(settings.home)
