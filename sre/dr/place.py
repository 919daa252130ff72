"""A restored place: a system of its own, begun from a backup beside the running one, that shares nothing with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sre.dr import backup, isolation, sets, vault
from sre.dr.backup import REPOSITORIES
from sre.dr.commands import Ran, silent
from sre.dr.pgbackrest_records import Backup
from sre.dr.recovery import Reached, Target, wait_for_target
from sre.dr.sets import BackupSet, Place
from sre.errors import CannotRun, StepFailed, UsageError
from sre.targets.local.database import SUPERUSER, superuser
from sre.targets.local.files import give_to
from sre.targets.local.layout import MEMBERS, Layout, Parts
from sre.targets.local.target import LocalTarget, down, up

REPLAY_WITHIN_S = 1800.0
# As in patroni.yml; typed by whoever replaces it.
CLUSTER = "ml"


@dataclass(frozen=True, slots=True)
class Restored:
    """A place that runs.

    Attributes:
        target: its system.
        reached: proof that recovery stopped where it was told to.
        backup: of the database, that recovery began from.
    """

    target: LocalTarget
    reached: Reached
    backup: Backup


def restore(  # noqa: PLR0913 - each is a choice of its own
    item: BackupSet,
    source: Layout,
    home: Path,
    *,
    place: Place = "store",
    target: Target | None = None,
    parts: Parts = "serving",
    variant: str = "auto",
    say: Callable[[str], None] = silent,
    ran: Ran = silent,
) -> Restored:
    """Begin a system from a backup set, in an empty folder.

    Only the superuser's password comes along, since the restored database asks for it; every other secret is made anew. What
    serves is then given one of its own, so that no credential of the place opens the running system.

    Args:
        item: the set.
        source: of the system that was backed up, running or not; its tools, its repositories' configuration and the superuser's
            password are used.
        home: of the new system; missing or empty.
        place: where the set is read from.
        target: where recovery stops; None is the set's own marker, at which every table is as the set says.
        parts: what is begun: with `database` the objects stay where they are.
        variant: of the model that the replica serves; only the one that made a prediction repeats it bit for bit.
        say: gets progress.
        ran: gets each command before it is run.

    Raises:
        CannotRun: the folder holds something, or a service did not become ready.
        StepFailed: an object or a file of the database is missing or altered, or recovery did not stop at the target.
    """
    if home.exists() and any(home.iterdir()):
        raise CannotRun(f"{home} is not empty; a restore goes into a new place, never over one")
    known = item.database.backups.get(place)
    if known is None:
        raise StepFailed(f"set {item.id} has no database backup in {place}; restore from the other place")
    wanted = target or Target.name(item.database.marker, item.ended.timestamp())
    own = _furnish(home, source)
    if parts != "database":
        vault.restore(sets.places(source.home)[place], item.objects, home / "data" / "objects", say)
    # A moment other than the set's own may lie behind a newer backup, from which there is less to replay.
    label = known.label if target is None else None
    pgbackrest, number = backup.stanza(source, ran), REPOSITORIES[place]
    used = pgbackrest.restore(own / "pgdata", wanted, number, label=label, say=say)
    # At a missing segment the server would take the WAL as ended, and come up without what follows.
    newest = pgbackrest.archive(number)[-1].newest if wanted.kind == "latest" else None
    begun, _ = up(home, source.tools, replicas=1, parts=parts, variant=variant, say=say)
    reached = wait_for_target(
        begun.layout.dsn(SUPERUSER, "postgres"), begun.layout.secrets / "passfile", begun.layout.logs / "postgres.log", wanted,
        newest_wal=newest,
        within_s=REPLAY_WITHIN_S,
    )  # fmt: skip
    if parts == "serving":
        isolation.sever(begun.layout)
    return Restored(begun, reached, used)


def _furnish(home: Path, source: Layout) -> Path:
    """The superuser's password, and a folder for the database, which is returned."""
    secrets, own = home / "secrets", home / "data" / "postgres"
    secrets.mkdir(mode=0o700, parents=True)
    shutil.copy2(source.secrets / f"{SUPERUSER}.password", secrets)
    own.mkdir(mode=0o700, parents=True)
    if source.account:
        home.chmod(0o711)
        own.parent.chmod(0o711)
        give_to(source.account, own)
    return own


def replace(  # noqa: PLR0913 - each is a choice of its own
    item: BackupSet,
    layout: Layout,
    name: str,
    *,
    place: Place = "store",
    target: Target | None = None,
    say: Callable[[str], None] = silent,
) -> Path:
    """Put a backup in the place of a system that is down. What was there is moved aside and not deleted.

    Everything is restored beside it first and proven to stop at the target; only then do folders change their names.

    Args:
        item: the set.
        layout: of the system.
        name: of the cluster, typed by whoever wants this.
        place: where the set is read from.
        target: as in `restore`.
        say: gets progress.

    Returns:
        The folder that holds what was there.

    Raises:
        UsageError: the name is another, or the system runs.
        StepFailed: as in `restore`; nothing has changed then.
    """
    if name != CLUSTER:
        raise UsageError(f"the cluster that would be replaced is named {CLUSTER}, not {name}; type its name to replace it")
    if layout.ports:
        raise UsageError(f"the system of {layout.home} runs; end it with `sre down` before it is replaced")
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    fresh, aside, data = layout.home / "restored" / stamp, layout.home / f"before-{stamp}", layout.home / "data"
    try:
        own = restore(item, layout, fresh, place=place, target=target, parts="database", say=say).target.layout
        with superuser(own, autocommit=True) as server:
            # What the restore wrote there would win over the cluster's own configuration: a server that archives nothing.
            server.execute("ALTER SYSTEM RESET ALL")
        down(fresh)
        (fresh / "restored").mkdir()
        vault.restore(sets.places(layout.home)[place], item.objects, fresh / "restored", say)
        old = [path for path in data.glob("*") if path.name.startswith(("postgres-", "etcd-"))]
        old += [path for path in layout.objects.glob("*") if path.name != sets.places(layout.home)["store"].name]
        first = data / MEMBERS[0]
        new = [(fresh / "data" / "postgres", first), *_buckets(fresh / "restored", layout.objects)]
        _rename([*((path, aside / path.relative_to(data)) for path in old), *new])
    finally:
        down(fresh, purge=True)
    return aside


def _buckets(source: Path, into: Path) -> list[tuple[Path, Path]]:
    return [(bucket, into / bucket.name) for bucket in sorted(source.iterdir())]


def _rename(moves: list[tuple[Path, Path]]) -> None:
    """All of them or none."""
    done: list[tuple[Path, Path]] = []
    try:
        for source, into in moves:
            into.parent.mkdir(parents=True, exist_ok=True)
            source.rename(into)
            done.append((source, into))
    except OSError:
        for source, into in reversed(done):
            into.rename(source)
        raise
