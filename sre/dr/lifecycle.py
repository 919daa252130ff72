"""What becomes of objects as they grow old: deleted, compressed in place, and for a while still to be had as versions.

    BUCKET/KEY                  an object
    BUCKET/.cold/KEY.gz         an object that is read seldom
    BUCKET/.versions/KEY/WHEN   what was under the key until WHEN

No key has a segment that begins with a dot. An object's age is that of its file's last change.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from sre.dr.backup_plan import DAY_S, Bucket
from sre.errors import CannotRun, StepFailed

BACKUPS = "ml-backups"
COLD, VERSIONS = ".cold", ".versions"
_SUFFIX = ".gz"
_WHEN = "%Y%m%dT%H%M%S.%fZ"
# What an object of a bucket with exceptions must be tagged with before S3 may delete it; untagged ones stay.
UNNAMED_TAG = {"Key": "named-by-registry", "Value": "no"}


class Verb(StrEnum):
    """What is done to an object."""

    EXPIRE = "expire"
    FREEZE = "freeze"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: to which file, and its age, s."""

    verb: Verb
    bucket: str
    path: str
    age_s: float

    def line(self) -> str:
        """For people."""
        return f"{self.verb:<6}  {self.bucket}/{self.path}  {self.age_s / DAY_S:.1f} days old"


def objects(root: Path) -> dict[str, Path]:
    """The file of every object by `bucket/key`, sorted, cold ones too; the backups' own bucket is left out."""
    found = {}
    for bucket in sorted(path for path in root.iterdir() if path.is_dir() and path.name != BACKUPS):
        for path in bucket.rglob("*"):
            key = path.relative_to(bucket)
            if path.is_file() and not any(part.startswith(".") for part in key.parts):
                found[f"{bucket.name}/{key.as_posix()}"] = path
        for path in (bucket / COLD).rglob(f"*{_SUFFIX}"):
            key = path.relative_to(bucket / COLD)
            if not any(part.startswith(".") for part in key.parts):
                # A freeze that was cut short leaves both; the object itself is sure to be whole.
                found.setdefault(f"{bucket.name}/{key.as_posix().removesuffix(_SUFFIX)}", path)
    return dict(sorted(found.items()))


def reading(path: Path) -> IO[bytes]:
    """Open the file of an object, as `objects` gave it, to read what the object holds."""
    return gzip.open(path) if COLD in path.parts else path.open("rb")  # type: ignore[return-value]


def thaw(root: Path, name: str) -> None:
    """Bring a cold object back under its key, young again; one that is not cold stays as it is.

    Raises:
        CannotRun: there is no such object.
        StepFailed: its compressed file is damaged.
    """
    bucket, _, key = name.partition("/")
    cold, warm = root / bucket / COLD / f"{key}{_SUFFIX}", root / bucket / key
    if warm.exists():
        return
    if not cold.exists():
        raise CannotRun(f"object {name} does not exist in {root}; restore it from a backup")
    try:
        _convert(reading(cold), warm, lambda path: path.open("wb"))
    except (OSError, EOFError) as error:
        raise StepFailed(f"cold object {name} is damaged ({error}); restore it from a backup") from error
    cold.unlink()


def due(root: Path, buckets: Mapping[str, Bucket], now: float, named: frozenset[str] = frozenset()) -> list[Action]:
    """What the rules ask for now; nothing is done.

    Args:
        root: the object store's folder.
        buckets: rules by bucket. `ml-backups` is passed over: `sre.dr.vault.unneeded` knows what backups need.
        now: wall clock, s.
        named: `bucket/key` of objects that something points at, as an alias of the registry; those never expire.
    """
    found = []
    for name, path in objects(root).items():
        bucket, _, key = name.partition("/")
        rule, age = buckets.get(bucket), now - path.stat().st_mtime
        if rule is None:
            continue
        where = path.relative_to(root / bucket).as_posix()
        if rule.expire_after is not None and age >= rule.expire_after and name not in named:
            found.append(Action(Verb.EXPIRE, bucket, where, age))
        elif rule.cold_after is not None and age >= rule.cold_after and where == key:
            found.append(Action(Verb.FREEZE, bucket, where, age))
    for bucket, rule in sorted(buckets.items()):
        found += [
            Action(Verb.FORGET, bucket, path.relative_to(root / bucket).as_posix(), age)
            for path in sorted((root / bucket / VERSIONS).rglob("*"))
            if rule.versions_for is not None and path.is_file() and (age := now - _replaced(path)) >= rule.versions_for
        ]
        for path in sorted((root / bucket / COLD).rglob(f"*{_SUFFIX}")):
            where = path.relative_to(root / bucket / COLD).as_posix().removesuffix(_SUFFIX)
            if (root / bucket / where).is_file():  # the object was written anew; else this one would come back when that one goes
                # First of all, since a freeze takes its place.
                found.insert(0, Action(Verb.EXPIRE, bucket, f"{COLD}/{where}{_SUFFIX}", now - path.stat().st_mtime))
    return found


def apply(root: Path, actions: Iterable[Action], now: float) -> None:
    """Do what `due` listed. An object that was replaced meanwhile, and so is young again, is left."""
    for action in actions:
        path = root / action.bucket / action.path
        if not path.exists() or (action.verb is not Verb.FORGET and now - path.stat().st_mtime < action.age_s):
            continue
        if action.verb is Verb.FREEZE:
            _freeze(root / action.bucket, path)
        elif action.verb is Verb.EXPIRE:
            keep_version(root / action.bucket, path, now)
        else:
            path.unlink()


def keep_version(bucket: Path, path: Path, now: float) -> None:
    """Move an object's file to its versions; the key is free then."""
    cold = path.is_relative_to(bucket / COLD)
    key = path.relative_to(bucket / COLD if cold else bucket).as_posix().removesuffix(_SUFFIX if cold else "")
    when = datetime.fromtimestamp(now, UTC).strftime(_WHEN)
    version = bucket / VERSIONS / key / f"{when}{_SUFFIX if cold else ''}"
    version.parent.mkdir(parents=True, exist_ok=True)
    path.rename(version)


def s3(buckets: Mapping[str, Bucket], cold_class: str = "GLACIER_IR") -> dict[str, dict[str, Any]]:
    """The same rules as S3 lifecycle configurations by bucket, for buckets with versioning; `{}` where nothing ever happens.

    Two things S3 cannot know, so it does less and never more: what the registry names (only objects tagged
    `named-by-registry=no` expire), and what backups need (of `ml-backups` only replaced and deleted versions expire).

    Args:
        buckets: rules by bucket.
        cold_class: storage class to move to; on MinIO the name of a remote tier.
    """
    return {
        name: {"Rules": rules} if (rules := list(_s3_rules(name, rule, cold_class))) else {} for name, rule in buckets.items()
    }


def _s3_rules(bucket: str, rule: Bucket, cold_class: str) -> Iterable[dict[str, Any]]:
    def one(name: str, tag: dict[str, str] | None = None, **what: Any) -> dict[str, Any]:
        return {"ID": name, "Status": "Enabled", "Filter": {"Tag": tag} if tag else {"Prefix": ""}, **what}

    if rule.expire_after is not None and bucket != BACKUPS:
        yield one("expire", UNNAMED_TAG, Expiration={"Days": _days(rule.expire_after)})
    if rule.cold_after is not None:
        yield one("cold", Transitions=[{"Days": _days(rule.cold_after), "StorageClass": cold_class}])
    if rule.versions_for is not None:
        yield one("versions", NoncurrentVersionExpiration={"NoncurrentDays": _days(rule.versions_for)})


def _replaced(version: Path) -> float:
    """When a version was replaced, s; nothing that is named otherwise is ever old."""
    try:
        return datetime.strptime(version.name.removesuffix(_SUFFIX), _WHEN).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return math.inf


def _days(seconds: float) -> int:
    return int(-(-seconds // DAY_S))  # S3 counts whole days; rounded up, so that nothing goes early


def _freeze(bucket: Path, path: Path) -> None:
    cold = bucket / COLD / f"{path.relative_to(bucket).as_posix()}{_SUFFIX}"
    # Without a time in its header the same object always becomes the same file.
    _convert(path.open("rb"), cold, lambda part: gzip.GzipFile(part, "wb", 6, mtime=0), of_the_age_of=path)
    with reading(cold) as there, path.open("rb") as here:
        while piece := here.read(1 << 20):
            if there.read(len(piece)) != piece:
                raise StepFailed(f"{path} was compressed wrongly; it stays as it is; check the disk and delete {cold}")
    path.unlink()


def _convert(source: IO[bytes], into: Path, opened: Callable[[Path], Any], of_the_age_of: Path | None = None) -> None:
    """Write a file, whole and on disk."""
    into.parent.mkdir(parents=True, exist_ok=True)
    part = into.parent / f".part-{into.name}"
    with ExitStack() as stack:
        stack.callback(part.unlink, missing_ok=True)
        with source, opened(part) as file:
            shutil.copyfileobj(source, file, 1 << 20)
        if of_the_age_of is not None:
            shutil.copystat(of_the_age_of, part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(into)
