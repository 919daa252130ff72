"""A backup set: one consistent whole of database, objects and the registry that points at them, as one JSON file.

The file is written last, under its own checksum, so a set that is there is complete, and a half backup is no set. What a later
verification found stands in a file of its own beside it; a set without one is unverified.

    sets/ID.json      {"schema": "sre.backup/1", "sha256": of the canonical text of "set", "set": {...}}
    checks/ID.json    {"schema": "sre.backup-check/1", "sha256": of "check", "check": {...}}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sre.dr import vault
from sre.dr.retention import Health, SetState
from sre.dr.vault import ObjectRef, Sha256
from sre.errors import EvidenceDamaged, StepFailed

SETS, CHECKS = "sets", "checks"
SCHEMA, CHECK_SCHEMA = "sre.backup/1", "sre.backup-check/1"

_NAME = re.compile(r"[a-z][a-z0-9-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_ID = re.compile(r"\d{8}T\d{6}Z-(full|diff)")


def _utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError("times of a set are UTC")
    return value.astimezone(UTC)


def _object_name(value: str) -> str:
    # A name becomes a path when it is restored; none may lead out of its bucket.
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not bucket/key of plain names")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
ObjectName = Annotated[str, AfterValidator(_object_name)]
Place = Literal["store", "off_site"]
Lsn = Annotated[str, Field(pattern=r"^[0-9A-F]{1,8}/[0-9A-F]{1,8}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DatabaseBackup(_Part):
    """The database's backup in one place. Each place has one of its own, made from the running server.

    Attributes:
        label: of the backup; a differential one's begins with that of its full one.
        timeline: at the backup's end.
        start_lsn: where the backup begins.
        stop_lsn: where it is consistent.
    """

    label: str = Field(pattern=r"^\d{8}-\d{6}F(_\d{8}-\d{6}D)?$")
    timeline: int = Field(ge=1)
    start_lsn: Lsn
    stop_lsn: Lsn


class Database(_Part):
    """The database's part of a set.

    Attributes:
        stanza: of pgBackRest.
        system_id: of the cluster, so that a backup of another cluster is told apart.
        marker: name of the restore point that lies behind every backup and belongs to this set.
        marker_wal: the WAL segment that holds it; without that one the set's moment cannot be reached.
        backups: by place.
    """

    stanza: str = Field(min_length=1)
    system_id: str = Field(pattern=r"^\d+$")
    marker: str = Field(min_length=1)
    marker_wal: str = Field(pattern=r"^[0-9A-F]{24}$")
    backups: dict[Place, DatabaseBackup] = Field(min_length=1)


class Table(_Part):
    """One table as it was when the set was made: rows, and a keyed checksum over all of them in hex."""

    rows: int = Field(ge=0)
    checksum: str = Field(min_length=1)


class RegisteredModel(_Part):
    """One model of the registry.

    Attributes:
        versions: the SHA-256 of every object, by version and `bucket/key`.
        aliases: the version that each alias names.
    """

    versions: dict[str, dict[ObjectName, Sha256]]
    aliases: dict[str, str]


class BackupSet(_Part):
    """One backup.

    Attributes:
        id: when it began, and its kind, as `20261124T020000Z-full`.
        kind: of the database's part, diff when any place's is; objects and registry are always whole.
        reason: why it was made.
        began, ended: UTC.
        database: its part.
        objects: content by `bucket/key`.
        tables: by `database.schema.table`.
        registry: by model.
        tools: versions of what made it.
    """

    id: str
    kind: Literal["full", "diff"]
    reason: Literal["daily", "weekly", "monthly", "manual"]
    began: Moment
    ended: Moment
    database: Database
    objects: dict[ObjectName, ObjectRef]
    tables: dict[str, Table]
    registry: dict[str, RegisteredModel]
    tools: dict[str, str]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.id != set_id(self.began, self.kind):
            raise ValueError(f"id {self.id!r} is not that of a {self.kind} set begun at {self.began.isoformat()}")
        if self.ended < self.began:
            raise ValueError("the set ended before it began")
        labels = [backup.label for backup in self.database.backups.values()]
        if any("_" in label for label in labels) != (self.kind == "diff"):
            raise ValueError(f"{', '.join(labels)} do not make a {self.kind} backup")
        return self


class Check(_Part):
    """What the last verification of a set found: nothing wrong, or a sentence for each thing that is."""

    set_sha256: Sha256
    at: Moment
    wrong: list[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a place.

    Attributes:
        sets: by id, oldest first.
        checks: what is known of them; a check of other content than the set's is left out.
        damaged: a sentence by file that should be a set or a check, and is not.
    """

    sets: dict[str, BackupSet]
    checks: dict[str, Check]
    damaged: dict[str, str]

    def states(self, place: Place) -> list[SetState]:
        """For retention in a place. A set without a database backup there is damaged; files that cannot be read are no sets."""
        found = []
        for item in self.sets.values():
            backup = item.database.backups.get(place)
            label, health = (backup.label, self.health(item.id)) if backup else ("", Health.DAMAGED)
            manual = item.reason == "manual"
            found.append(SetState(id=item.id, taken=item.began, label=label, health=health, manual=manual))
        return found

    def health(self, set_name: str) -> Health:
        """Of one set."""
        check = self.checks.get(set_name)
        return Health.UNVERIFIED if check is None else Health.DAMAGED if check.wrong else Health.GOOD

    def needed(self) -> frozenset[str]:
        """SHA-256 of every object that a set names.

        Raises:
            EvidenceDamaged: a set cannot be read, so nobody knows what it needs.
        """
        if lost := {name: why for name, why in self.damaged.items() if name.startswith(f"{SETS}/")}:
            raise EvidenceDamaged(
                f"{'; '.join(lost.values())}: it may need any object; bring its file back from the other place, or delete it"
            )
        return frozenset(ref.sha256 for item in self.sets.values() for ref in item.objects.values())


_Model = TypeVar("_Model", BackupSet, Check)


def places(home: Path) -> dict[Place, Path]:
    """Where the backups of a local system lie, whether it runs or not."""
    return {"store": home / "data" / "objects" / "ml-backups", "off_site": home / "offsite"}


def set_id(began: datetime, kind: str) -> str:
    """The id of a set of a kind that began at a time."""
    return f"{began.astimezone(UTC):%Y%m%dT%H%M%SZ}-{kind}"


def dump(item: BackupSet) -> bytes:
    """The file of a set."""
    return _dump(SCHEMA, "set", item)


def parse(data: bytes, name: str) -> BackupSet:
    """Read a set's file; the exact inverse of `dump`: any other byte is found.

    Raises:
        EvidenceDamaged: it is not such a file, or not as it was written.
    """
    return _parse(data, SCHEMA, "set", BackupSet, name)


def write(root: Path, item: BackupSet) -> Path:
    """Put a set on disk, whole or not at all. Its objects must be in the vault by now.

    Args:
        root: of the vault, held by the caller.
        item: the set.

    Raises:
        StepFailed: there is another set of this id, or an object is not in the vault.
    """
    path = root / SETS / f"{item.id}.json"
    if path.exists():
        raise StepFailed(f"backup set {item.id} exists in {root}; a set is never written over; make the next one a second later")
    missing = [name for name, ref in item.objects.items() if not vault.path_of(root, ref.sha256).exists()]
    if missing:
        raise StepFailed(f"backup set {item.id} names objects that {root} lacks: {', '.join(missing[:5])}; back them up first")
    vault.write_whole(path, [dump(item)])
    return path


def write_check(root: Path, item: BackupSet, wrong: list[str], now: float) -> None:
    """Put on disk what a verification of a set found; the newest replaces the one before. A set removed meanwhile gets none."""
    if not (root / SETS / f"{item.id}.json").exists():
        return
    check = Check(set_sha256=_sha(item), at=datetime.fromtimestamp(now, UTC), wrong=wrong)
    vault.write_whole(root / CHECKS / f"{item.id}.json", [_dump(CHECK_SCHEMA, "check", check)])


def listing(root: Path) -> Listing:
    """Read every set of a place; what is damaged is named, and the rest is read."""
    checked = sorted((root / CHECKS).glob("[!.]*"))  # before the sets: a set is there before its check
    sets, owners = dict[str, BackupSet](), dict[tuple[Place, str], str]()
    checks, damaged = dict[str, Check](), dict[str, str]()
    for path in sorted((root / SETS).glob("[!.]*")):
        try:
            sets[path.stem] = _read(path, owners)
        except (EvidenceDamaged, OSError) as error:
            damaged[f"{SETS}/{path.name}"] = str(error)
    for path in checked:
        if path.stem not in sets and (name := f"{SETS}/{path.name}") not in damaged and path.exists():
            damaged[name] = f"{name} is missing, and {CHECKS}/{path.name} tells that it was there in {root}"
    for set_name, item in sets.items():
        name = f"{CHECKS}/{set_name}.json"
        try:
            check = _parse((root / name).read_bytes(), CHECK_SCHEMA, "check", Check, name)
        except FileNotFoundError:
            continue
        except (EvidenceDamaged, OSError) as error:
            damaged[name] = str(error)
            continue
        if check.set_sha256 == _sha(item):
            checks[set_name] = check
    return Listing(sets, checks, damaged)


def remove(root: Path, set_name: str) -> None:
    """Delete a set; its objects stay until nothing names them. The caller holds the vault.

    Raises:
        StepFailed: this is not the id of a set.
    """
    if not _ID.fullmatch(set_name):
        raise StepFailed(f"{set_name!r} is not the id of a backup set; `sre backup list` shows them")
    # In this order, since a check without its set tells of a set that was lost.
    (root / CHECKS / f"{set_name}.json").unlink(missing_ok=True)
    (root / SETS / f"{set_name}.json").unlink(missing_ok=True)


def copy(root: Path, other: Path, item: BackupSet, say: vault.Say = lambda _: None) -> None:
    """Bring a set to another place: its objects, each read and checked there or as it is written, then its file.

    Args:
        root: that has it.
        other: that gets it; held by the caller.
        item: the set.
        say: gets a line of progress.

    Raises:
        StepFailed: an object is missing or altered; then the other place gets no such set.
    """
    vault.copy(root, other, item.objects, say)
    vault.write_whole(other / SETS / f"{item.id}.json", [dump(item)])


def repair(root: Path, other: Path) -> list[str]:
    """Bring back damaged and lost files of sets from another place that has them; the names of those brought back."""
    there, back = listing(other), []
    for name in listing(root).damaged:
        set_name = Path(name).stem
        if name.startswith(f"{SETS}/") and set_name in there.sets:
            vault.write_whole(root / name, [dump(there.sets[set_name])])
            back.append(name)
    return back


def registry_gaps(registry: Mapping[str, RegisteredModel], objects: Mapping[str, ObjectRef]) -> list[str]:
    """A sentence for everything in the registry that points at nothing, or at something else.

    Args:
        registry: by model.
        objects: by `bucket/key`, as they were put into the vault or restored.
    """
    gaps = []
    for model, registered in sorted(registry.items()):
        gaps += [
            f"model {model}: alias {alias} names version {version}, which does not exist"
            for alias, version in sorted(registered.aliases.items())
            if version not in registered.versions
        ]
        for version, files in sorted(registered.versions.items()):
            if not files:
                gaps.append(f"model {model} version {version} has no files")
            for name, sha256 in sorted(files.items()):
                if name not in objects:
                    gaps.append(f"model {model} version {version}: {name} is missing")
                elif objects[name].sha256 != sha256:
                    gaps.append(f"model {model} version {version}: {name} is not what was registered")
    return gaps


def aliased(registry: Mapping[str, RegisteredModel]) -> frozenset[str]:
    """`bucket/key` of every object that an alias names."""
    return frozenset(
        name for model in registry.values() for version in model.aliases.values() for name in model.versions.get(version, ())
    )


def newest_aliased(root: Path) -> frozenset[str] | None:
    """`bucket/key` of every object that an alias named when the newest set was made; known also while the registry is down.

    None where there is no set.
    """
    known = listing(root).sets
    return aliased(list(known.values())[-1].registry) if known else None


def _read(path: Path, owners: dict[tuple[Place, str], str]) -> BackupSet:
    """One set of a place; `owners` tells which sets have which database backups, and learns of this one."""
    name = f"{SETS}/{path.name}"
    item = parse(path.read_bytes(), name)
    if path.name != f"{item.id}.json":
        raise EvidenceDamaged(f"{name} holds the set {item.id}")
    for place, backup in item.database.backups.items():
        # Every set is made with a database backup of its own.
        if (owner := owners.setdefault((place, backup.label), item.id)) != item.id:
            raise EvidenceDamaged(f"{name} names the database backup {backup.label} of set {owner}: one of the two is a copy")
    return item


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _sha(item: BaseModel) -> str:
    return hashlib.sha256(_canonical(item.model_dump(mode="json")).encode()).hexdigest()


def _dump(schema: str, field: str, item: BaseModel) -> bytes:
    return (_canonical({"schema": schema, "sha256": _sha(item), field: item.model_dump(mode="json")}) + "\n").encode()


def _parse(data: bytes, schema: str, field: str, kind: type[_Model], name: str) -> _Model:
    try:
        document = json.loads(data)
        item = kind.model_validate_json(_canonical(document[field]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EvidenceDamaged(f"{name} is damaged: {where or field}: {first['msg']}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors
        raise EvidenceDamaged(f"{name} is damaged: it is no {schema} ({error})") from None
    if _dump(schema, field, item) != data:
        raise EvidenceDamaged(f"{name} is damaged: its content is not what its checksum was made of")
    return item
