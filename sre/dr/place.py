"""A restored place: a system of its own, begun from a backup beside the running one, that shares nothing with it."""

from __future__ import annotations

import shutil
from pathlib import Path

from sre.dr import objects
from sre.dr.postgres import Ran, base_backup
from sre.targets.local.layout import Layout
from sre.targets.local.prepare import SUPERUSER, give_to
from sre.targets.local.target import LocalTarget, up

DATABASE, OBJECTS = "database", "objects"


def back_up(layout: Layout, into: Path, ran: Ran = lambda _: None) -> None:
    """Copy database and buckets into a new folder.

    Args:
        layout: of the running system.
        into: the new folder.
        ran: gets each command before it is run.

    Raises:
        StepFailed: pg_basebackup failed.
    """
    (into / OBJECTS).mkdir(parents=True)
    base_backup(layout, into / DATABASE, ran)
    # Objects after the database: the registry may lack an object's row, but never names an object that is not there.
    objects.copy(layout.objects, into / OBJECTS)


def restore(backup: Path, place: Path, source: Layout, variant: str) -> LocalTarget:
    """Begin a system with one replica from a backup, in an empty folder.

    Only the superuser's password comes along, since the restored database asks for it; every other secret is made anew, so that
    no credential of the place opens the running system.

    Args:
        backup: as `back_up` left it; it stays as it is.
        place: home of the new system.
        source: of the running system; its tools and the superuser's password are used.
        variant: of the model that the replica serves; only the one that made a prediction repeats it bit for bit.

    Raises:
        CannotRun: a service did not become ready.
    """
    secrets = place / "secrets"
    secrets.mkdir(mode=0o700, parents=True)
    shutil.copy2(source.secrets / f"{SUPERUSER}.password", secrets)
    data = place / "data"
    shutil.copytree(backup / OBJECTS, data / "objects")
    shutil.copytree(backup / DATABASE, data / "postgres")
    (data / "postgres").chmod(0o700)
    if source.account:
        give_to(source.account, data / "postgres")
    target, _ = up(place, source.tools, replicas=1, parts="serving", variant=variant)
    return target
