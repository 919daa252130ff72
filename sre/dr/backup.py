"""A backup of a local system, from the running database to the set's file in both places; and the check of one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import conninfo

from sre.dr import content, lifecycle, sets, vault
from sre.dr import pruning as pruner
from sre.dr.backup_plan import Plan
from sre.dr.commands import Ran, silent
from sre.dr.pgbackrest import Stanza
from sre.dr.pgbackrest_records import Backup
from sre.dr.sets import BackupSet, Database, DatabaseBackup, Place, RegisteredModel
from sre.dr.vault import ObjectRef
from sre.errors import StepFailed, TargetUnavailable
from sre.targets.local.database import SUPERUSER, backrest
from sre.targets.local.layout import Layout
from sre.targets.local.members import LocalDatabase
from sre.targets.local.programs import find

# pgBackRest's number of each place's repository.
REPOSITORIES: dict[Place, int] = {"store": 1, "off_site": 2}
MODELS_BUCKET, MANIFEST, GOLDEN = "ml-models-production", "manifest.json", "golden.npz"
ARCHIVED_WITHIN_S = 120.0
_HELD_WITHIN_S = 600.0

Reason = Literal["daily", "weekly", "monthly", "manual"]
Say = Callable[[str], None]


def stanza(layout: Layout, ran: Ran = silent) -> Stanza:
    """PgBackRest as the primary's member is configured for it; of a system that is down, any member's.

    Raises:
        TargetUnavailable: the home holds no configuration: nothing was ever begun there.
    """
    primary = LocalDatabase(layout).primary() if layout.ports else None
    member = primary.name if primary else next((m for m in layout.members if layout.private(m).exists()), None)
    if member is None:
        raise TargetUnavailable(f"{layout.home} holds no configuration of a database; run `sre up`")
    program, config, environment = backrest(layout, member)
    return Stanza(program=program, environment=environment, config=config, account=layout.account, ran=ran)


def create(
    layout: Layout, kind: Literal["full", "diff"], reason: Reason = "manual", *, say: Say = silent, ran: Ran = silent
) -> BackupSet:
    """Back up database, objects and registry as one consistent set, into both places, and read both again.

    The order makes it consistent: first the database, then a marker behind it, in one moment with the figures of every table;
    then the objects, which are only ever added, so that all that the registry names at the marker is among them.

    Args:
        layout: of the running system.
        kind: a differential backup needs a full one before it; without one it becomes full.
        reason: for retention.
        say: gets progress.
        ran: gets each command before it is run.

    Raises:
        CannotRun: another backup is under way.
        StepFailed: a part could not be backed up, and no set is written; or what was written is damaged, and never counts.
        psycopg.Error: the database cannot be asked.
    """
    roots = sets.places(layout.home)
    with vault.hold(roots["store"], "sre backup create", _HELD_WITHIN_S):
        pgbackrest, began = stanza(layout, ran), datetime.now(UTC)
        made = pgbackrest.backup(kind, say)
        whole: Literal["full", "diff"] = "diff" if any("_" in item.label for item in made.values()) else "full"
        set_name = sets.set_id(began, whole)
        superuser, passfile = layout.dsn(SUPERUSER, "postgres"), layout.secrets / "passfile"
        say("marking one moment of every database")
        with content.freeze(superuser, passfile, f"set-{set_name}") as frozen:
            tables = content.tables(superuser, passfile, frozen.marker, frozen.snapshots)
        marker_wal = _await_archived(pgbackrest, superuser, passfile, frozen.lsn, say)
        objects = vault.back_up(layout.objects, roots["store"], say)
        registry = read_registry(superuser, passfile, roots["store"], objects)
        if gaps := sets.registry_gaps(registry, objects):
            raise StepFailed(f"the registry names what is not there, so this is no backup: {'; '.join(gaps)}")
        item = BackupSet(
            id=set_name, kind=whole, reason=reason, began=began, ended=datetime.now(UTC),
            database=Database(
                stanza=pgbackrest.name, system_id=str(next(iter(made.values())).system), marker=frozen.marker,
                marker_wal=marker_wal,
                backups={place: _part(made[number]) for place, number in REPOSITORIES.items()},
            ),
            objects=objects, tables=tables, registry=registry, tools=_tools(layout),
        )  # fmt: skip
        sets.write(roots["store"], item)
        say(f"{set_name} is whole; copying its objects to the second place")
        with vault.hold(roots["off_site"], "sre backup create", _HELD_WITHIN_S):
            sets.copy(roots["store"], roots["off_site"], item, say)
    for place in roots:
        if wrong := _verify(pgbackrest, layout, item, place, say):
            raise StepFailed(f"{set_name} was written and is damaged in {place}: {'; '.join(wrong)}")
    return item


def verify(layout: Layout, item: BackupSet, place: Place, *, say: Say = silent, ran: Ran = silent) -> list[str]:
    """Read every file of a set again, and write down what was found beside it.

    Args:
        layout: of the system, running or not.
        item: the set.
        place: which of its copies.
        say: gets progress.
        ran: gets each command before it is run.

    Returns:
        A sentence for each thing that is wrong; empty when the set can be restored.
    """
    return _verify(stanza(layout, ran), layout, item, place, say)


def _verify(pgbackrest: Stanza, layout: Layout, item: BackupSet, place: Place, say: Say) -> list[str]:
    root, number = sets.places(layout.home)[place], REPOSITORIES[place]
    say(f"{place}: reading every file of the database's backups and of its WAL")
    wrong = [str(damage) for damage in pgbackrest.verify(number)]
    backup = item.database.backups.get(place)
    if backup is None:
        wrong.append(f"set {item.id} has no database backup in {place}")
    elif not wrong:
        wrong += _database_gaps(pgbackrest, item, place, backup)
    wrong += vault.verify(root, item.objects, say)
    wrong += sets.registry_gaps(item.registry, item.objects)
    with vault.hold(root, "sre backup verify", _HELD_WITHIN_S):
        sets.write_check(root, item, wrong, time.time())
    return wrong


def prune(layout: Layout, plan: Plan, now: float, *, dry_run: bool = False, say: Say = silent) -> list[str]:
    """Remove what a plan no longer keeps, in both places, and apply its rules for old objects.

    Args:
        layout: of the system, running or not.
        plan: the backup plan.
        now: wall clock, s.
        dry_run: only tell.
        say: gets progress.

    Returns:
        A line for each thing that went, or would go.

    Raises:
        EvidenceDamaged: a set cannot be read, so nobody knows what it needs.
        StepFailed: pgBackRest failed; what was removed before that is gone.
    """
    gone: list[str] = []
    pgbackrest = stanza(layout)
    for place, root in sets.places(layout.home).items():
        with vault.hold(root, "sre backup prune", _HELD_WITHIN_S):
            pruning, number = pruner.plan_for(root, place, plan, now), REPOSITORIES[place]
            gone += [f"{place}: set {name}" for name in pruning.dropped]
            # The ones that build on others first: a full backup takes them along.
            doomed = [item.label for item in pgbackrest.backups(number) if pruning.kept and item.label not in pruning.labels]
            gone += [f"{place}: database backup {label}" for label in doomed]
            gone += [f"{place}: object {path.name}" for path in pruning.objects]
            if dry_run:
                continue
            say(f"{place}: removing {len(pruning.dropped)} sets, {len(doomed)} database backups, {len(pruning.objects)} objects")
            pruner.drop_sets(root, pruning)
            for label in reversed(doomed):
                pgbackrest.expire(label, number)
            pruner.drop_objects(root, pruning, plan, now)
    named = sets.newest_aliased(sets.places(layout.home)["store"])
    due = [] if named is None else lifecycle.due(layout.objects, plan.buckets, now, named)
    gone += [item.line() for item in due]
    if not dry_run:
        lifecycle.apply(layout.objects, due, now)
    return gone


def read_registry(dsn: str, passfile: Path, root: Path, objects: Mapping[str, ObjectRef]) -> dict[str, RegisteredModel]:
    """The registry of MLflow's database, with what it says that each version's files should be.

    Args:
        dsn: of a role that may read the database `mlflow`.
        passfile: libpq password file.
        root: of the vault that holds the manifests.
        objects: by `bucket/key`.

    Raises:
        psycopg.Error: the database cannot be asked.
        StepFailed: a manifest cannot be read.
    """
    with psycopg.connect(conninfo.make_conninfo(dsn, dbname="mlflow"), passfile=str(passfile), connect_timeout=10) as connection:
        versions = connection.execute(
            "SELECT v.name, v.version::text, t.value FROM model_versions v LEFT JOIN model_version_tags t"
            " ON t.name = v.name AND t.version = v.version AND t.key = 'manifest_sha256'"
            " WHERE v.current_stage <> 'Deleted_Internal' ORDER BY v.name, v.version"
        ).fetchall()
        aliases = connection.execute("SELECT name, alias, version::text FROM registered_model_aliases").fetchall()
    found: dict[str, RegisteredModel] = {}
    for model, number, vouched in versions:
        if vouched is None:
            # Registering it was interrupted: nothing vouches for its files, and an alias that named it would be a gap.
            continue
        files = _files(root, objects, f"{MODELS_BUCKET}/{model}/{number}", vouched)
        known = found.setdefault(model, RegisteredModel(versions={}, aliases={}))
        known.versions[number] = files
    for model, alias, number in aliases:
        found.setdefault(model, RegisteredModel(versions={}, aliases={})).aliases[alias] = number
    return found


def _files(root: Path, objects: Mapping[str, ObjectRef], folder: str, vouched: str) -> dict[str, str]:
    """SHA-256 by `bucket/key` as the version's tag and its manifest tell them, not as the files happen to be."""
    name = f"{folder}/{MANIFEST}"
    files = {name: vouched}
    if name in objects and objects[name].sha256 == vouched:
        try:
            manifest = json.loads(vault.path_of(root, vouched).read_text(encoding="utf-8"))
            files |= {f"{folder}/{one['file']}": one["sha256"] for one in manifest["variants"]}
            files[f"{folder}/{GOLDEN}"] = manifest["golden_sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StepFailed(f"{name} cannot be read: {error!r}; restore the bucket {MODELS_BUCKET}") from error
    return files


def _database_gaps(pgbackrest: Stanza, item: BackupSet, place: Place, backup: DatabaseBackup) -> list[str]:
    """What a set asks of a repository that is whole in itself, and does not find there."""
    number, name = REPOSITORIES[place], f"database backup {backup.label}"
    there = {known.label: known for known in pgbackrest.backups(number)}.get(backup.label)
    if there is None:
        return [f"{name} is not in the repository of {place}; it has expired or was deleted"]
    gaps = []
    if str(there.system) != item.database.system_id:
        gaps.append(f"{name} of {place} is of database system {there.system}, set {item.id} is of {item.database.system_id}")
    if (found := _part(there)) != backup:
        ends = f"it ends at {found.stop_lsn} of timeline {found.timeline}, not at {backup.stop_lsn} of {backup.timeline}"
        gaps.append(f"{name} of {place} is not the one that set {item.id} was made with: {ends}")
    if not _archived(pgbackrest, number, item.database.marker_wal):
        gaps.append(
            f"missing WAL {item.database.marker_wal}: set {item.id} ends there, and the archive of {place} does not hold it"
        )
    return gaps


def _await_archived(pgbackrest: Stanza, dsn: str, passfile: Path, lsn: str, say: Say) -> str:
    """Wait until every repository holds the WAL up to a place, without which the set's marker cannot be reached; its segment."""
    with psycopg.connect(dsn, passfile=str(passfile), autocommit=True, connect_timeout=10) as connection:
        row = connection.execute("SELECT pg_walfile_name(%s::pg_lsn)", [lsn]).fetchone()
        connection.execute("SELECT pg_switch_wal()")
    segment = str(row[0]) if row else ""
    deadline = time.monotonic() + ARCHIVED_WITHIN_S
    say(f"waiting until WAL {segment} is archived in every repository")
    while True:
        lacking = [number for number in REPOSITORIES.values() if not _archived(pgbackrest, number, segment)]
        if not lacking:
            return segment
        if time.monotonic() > deadline:
            raise StepFailed(f"WAL {segment} did not arrive in repository {lacking} within {ARCHIVED_WITHIN_S:.0f} s")
        time.sleep(0.5)


def _archived(pgbackrest: Stanza, number: int, segment: str) -> bool:
    return any(item.oldest <= segment <= item.newest for item in pgbackrest.archive(number) if item.oldest[:8] == segment[:8])


def _part(backup: Backup) -> DatabaseBackup:
    return DatabaseBackup(label=backup.label, timeline=backup.timeline, start_lsn=backup.start_lsn, stop_lsn=backup.stop_lsn)


def _tools(layout: Layout) -> dict[str, str]:
    programs = {name: find(name, layout.tools).version() for name in ("postgres", "pgbackrest")}
    return {**programs, "patroni": version("patroni"), "mlflow": version("mlflow")}
