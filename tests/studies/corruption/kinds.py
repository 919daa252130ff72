"""The kinds, as data: what is damaged, how, and who must find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.studies.corruption import changes as by
from tests.studies.corruption import damage as do
from tests.studies.corruption.damage import Damage
from tests.studies.corruption.observe import Finder, Seen, in_list, in_newest, in_store, off_site, restored
from tests.studies.corruption.scene import Scene, copy

NONE, DAY = timedelta(0), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of corruption or loss.

    Attributes:
        part: of a backup.
        name: what happened to it.
        damage: does it.
        finder: who must find it, and name it.
    """

    part: str
    name: str
    damage: Damage
    finder: Finder = in_store

    @property
    def slow(self) -> bool:
        """Whether finding it reads the database's backups."""
        return self.finder in (in_store, in_newest, off_site)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one kind: whether there was an alarm, which names it lacks, and its words."""

    part: str
    name: str
    alarm: bool
    unnamed: Sequence[str]
    words: str

    @property
    def found(self) -> bool:
        """Told, and by its name."""
        return self.alarm and not self.unnamed


KINDS = (
    Kind("object", "flipped bit", do.an_object(by.flip, "is altered")),
    Kind("object", "truncated", do.an_object(by.cut, "is truncated")),
    Kind("object", "half-written, zeros behind", do.an_object(by.unwritten, "is altered")),
    Kind("object", "emptied", do.an_object(by.empty, "is truncated: 0 of")),
    Kind("object", "longer than it was", do.an_object(by.grow, "is altered")),
    Kind("object", "missing", do.an_object(by.remove, "is missing")),
    Kind("object", "two swapped, of one size", do.swapped_objects),
    Kind("object", "symbolic link in its place", do.linked_object),
    Kind("object", "folder in its place", do.folder_for_object),
    Kind("object", "folder of objects lost", do.lost_folder_of_objects),
    Kind("object", "flipped bit in a model's manifest", do.an_object(by.flip, "is altered", "/manifest.json")),
    Kind("set", "flipped bit in its file", do.set_file(by.flip), in_list),
    Kind("set", "flipped bit in the newest, and none is named to verify", do.set_file(by.flip), in_newest),
    Kind("set", "half-written file", do.set_file(by.halve), in_list),
    Kind("set", "emptied file", do.set_file(by.empty), in_list),
    Kind("set", "file missing", do.set_file(by.remove, "is missing"), in_list),
    Kind("set", "another set's content in its file", do.set_under_anothers_name, in_list),
    Kind("set", "copied: two with one label", do.doubled_set, in_list),
    Kind("set", "foreign file among the sets", do.stray_file, in_list),
    Kind("set", "flipped bit in its check", do.flipped_check, in_list),
    Kind("set", "checks missing", do.lost_checks, in_list),
    Kind("set", "of another database system", do.altered_set(do.of_another_system, "is of database system")),
    Kind("set", "label of another database backup", do.altered_set(do.of_another_backup, "is not the one that set", "0/1")),
    Kind("registry", "alias of a missing version",
         do.altered_set(do.of_model(do.alias_of_nothing), "alias production names version 99")),
    Kind("registry", "version without files", do.altered_set(do.of_model(do.version_without_files), "version 98 has no files")),
    Kind("registry", "version with a missing artifact", do.altered_set(do.lost_artifact, "/model.onnx is missing")),
    Kind("registry", "manifest is not the registered one",
         do.altered_set(do.of_model(do.other_manifest), "/manifest.json is not what was registered")),
    Kind("database", "flipped bit in a file", do.database_file(by.flip)),
    Kind("database", "truncated file", do.database_file(by.cut)),
    Kind("database", "missing file", do.database_file(by.remove)),
    Kind("database", "two files swapped", do.swapped_database_files),
    Kind("database", "file that may not be read", do.database_file(by.hide)),
    Kind("database", "flipped bit in a manifest", do.backup_folder(by.flip, "backup.manifest")),
    Kind("database", "manifest missing", do.backup_folder(by.remove, "backup.manifest")),
    Kind("database", "full backup's folder lost", do.backup_folder(by.remove)),
    Kind("database", "half-written backup", do.half_written_backup),
    Kind("database", "backup expired by hand", do.expired_backup),
    Kind("database", "flipped bit in backup.info", do.info(by.flip, "backup/{stanza}/backup.info")),
    Kind("database", "backup.info missing", do.info(by.remove, "backup/{stanza}/backup.info")),
    Kind("WAL", "flipped bit", do.wal(by.flip, do.of_the_backup)),
    Kind("WAL", "truncated segment", do.wal(by.cut, do.of_the_backup)),
    Kind("WAL", "segment of a backup missing", do.wal(by.remove, do.of_the_backup)),
    Kind("WAL", "segment between backups missing", do.wal(by.remove, do.in_between)),
    Kind("WAL", "newest segments missing", do.newest_wal),
    Kind("WAL", "all segments missing", do.all_wal),
    Kind("WAL", "truncated archive.info", do.info(by.cut, "archive/{stanza}/archive.info")),
    Kind("WAL", "flipped bit in archive.info", do.info(by.flip, "archive/{stanza}/archive.info")),
    Kind("place", "repository lost", do.lost_repository),
    Kind("place", "bucket emptied", do.empty_bucket, in_list),
    Kind("place", "wrong cipher key", do.wrong_key),
    Kind("place", "flipped bit in an object off-site", do.off_site_object, off_site),
    Kind("place", "missing database file off-site", do.database_file(by.remove, off_site=True), off_site),
    Kind("place", "off-site behind", do.off_site_behind, in_list),
    Kind("place", "off-site lost", do.off_site_gone, in_list),
    Kind("time", "stale backup", do.dated(-DAY * 1.25, -DAY * 2, "the newest good backup of store, {newer}", "allows 26 h"),
         in_list),
    Kind("time", "every set from the future",
         do.dated(DAY * 3, DAY * 2, "store holds no good backup", "{newer}", "{older}", "a clock jumped"), in_list),
    Kind("time", "clock set back between sets",
         do.dated(-DAY / 8, NONE, "{older}, was made before {newer}", "a clock was set back"), in_list),
    Kind("restored", "object lost", do.nothing, restored(do.lost_object)),
    Kind("restored", "object altered", do.nothing, restored(do.altered_object)),
    Kind("restored", "object invented", lambda _: ("ml-datasets/invented invented",), restored(do.invented_object)),
)  # fmt: skip


def outcome(kind: Kind, scene: Scene, home: Path) -> Outcome:
    """Damage a copy of a scene, and look.

    Args:
        kind: of damage.
        scene: stays as it is.
        home: of the copy, which stays behind.
    """
    copied = copy(scene, home)
    names = [name for name in kind.damage(copied) if name]
    seen: Seen = kind.finder(copied)
    return Outcome(kind.part, kind.name, seen.alarm, [name for name in names if name not in seen.words], seen.words)
