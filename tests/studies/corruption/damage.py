"""What is done to a scene. Each does one thing that happens to backups, and returns what a message must name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sre.dr import backup, sets, vault
from sre.dr.pgbackrest_records import SEGMENT_BYTES, number, segment
from sre.dr.recovery import place
from sre.dr.sets import BackupSet, Place
from sre.targets.local.target import layout_of
from tests.studies.corruption.changes import Change, flip, remove, swap
from tests.studies.corruption.scene import Scene, rewrite

Damage = Callable[[Scene], Sequence[str]]
STANZA = "ml"


def an_object(change: Change, says: str, end: str = "/model.onnx") -> Damage:
    """An object of the model in production."""

    def do(scene: Scene) -> Sequence[str]:
        name = scene.named(end)
        change(scene.content(name))
        return name, says

    return do


def swapped_objects(scene: Scene) -> Sequence[str]:
    """Two of the same size."""
    sizes: dict[int, str] = {}
    for name, ref in sorted(scene.item.objects.items()):
        other = sizes.setdefault(ref.size, name)
        if scene.item.objects[other].sha256 != ref.sha256:
            swap(scene.content(other), scene.content(name))
            return other, name
    raise AssertionError("no two objects have the same size")


def linked_object(scene: Scene) -> Sequence[str]:
    """It leads to the very object that it should be a backup of."""
    name = scene.named("/model.onnx")
    path = scene.content(name)
    path.unlink()
    path.symlink_to(scene.home / "data" / "objects" / name)
    return name, "is no plain file"


def folder_for_object(scene: Scene) -> Sequence[str]:
    """A folder has its name."""
    name = scene.named("/model.onnx")
    scene.content(name).unlink()
    scene.content(name).mkdir()
    return name, "is no plain file"


def lost_folder_of_objects(scene: Scene) -> Sequence[str]:
    """All objects whose checksums begin alike."""
    folder = scene.content(scene.named("/model.onnx")).parent
    remove(folder)
    return [name for name, ref in scene.item.objects.items() if ref.sha256.startswith(folder.name)]


def set_file(change: Change, says: str = "") -> Damage:
    """The newer set's file."""

    def do(scene: Scene) -> Sequence[str]:
        change(scene.file(scene.item))
        return f"sets/{scene.item.id}.json", says

    return do


def put(scene: Scene, item: BackupSet, *, instead_of: BackupSet) -> None:
    """A set that agrees with its checksum, verified, in place of another one."""
    remove(scene.file(instead_of))
    remove(scene.store / sets.CHECKS / f"{instead_of.id}.json")
    vault.write_whole(scene.file(item), [sets.dump(item)])
    sets.write_check(scene.store, item, [], item.ended.timestamp())


def altered_set(change: Callable[[dict[str, Any]], None], *says: str) -> Damage:
    """What a faulty writer would have written: the newer set with other content, and a checksum to fit."""

    def do(scene: Scene) -> Sequence[str]:
        document = scene.item.model_dump()
        change(document)
        put(scene, BackupSet.model_validate(document), instead_of=scene.item)
        return says

    return do


def of_model(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """A change of the only registered model."""

    def do(document: dict[str, Any]) -> None:
        (model,) = document["registry"].values()
        change(model)

    return do


def alias_of_nothing(model: dict[str, Any]) -> None:
    """It names a version that nobody registered."""
    model["aliases"]["production"] = "99"


def version_without_files(model: dict[str, Any]) -> None:
    """Registered, and nothing of it was ever uploaded."""
    model["versions"]["98"] = {}


def other_manifest(model: dict[str, Any]) -> None:
    """The registry vouches for another manifest than the one that lies there."""
    files = model["versions"][model["aliases"]["production"]]
    files[next(name for name in files if name.endswith("/manifest.json"))] = "0" * 64


def lost_artifact(document: dict[str, Any]) -> None:
    """The model's weights were not among the objects when the set was made."""
    del document["objects"][next(name for name in document["objects"] if name.endswith("/model.onnx"))]


def of_another_system(document: dict[str, Any]) -> None:
    """A set of another cluster that came into this place."""
    document["database"]["system_id"] = "1"


def of_another_backup(document: dict[str, Any]) -> None:
    """Its database backup ends elsewhere than the one of that label."""
    document["database"]["backups"]["store"]["stop_lsn"] = "0/1"


def set_under_anothers_name(scene: Scene) -> Sequence[str]:
    """Copied over the newer one by hand."""
    rewrite(scene.file(scene.item), scene.file(scene.base).read_bytes())
    return (f"sets/{scene.item.id}.json holds the set {scene.base.id}",)


def redated(item: BackupSet, by: timedelta) -> BackupSet:
    """The same set, made at another time."""
    began, ended = item.began + by, item.ended + by
    return item.model_copy(update={"id": sets.set_id(began, item.kind), "began": began, "ended": ended})


def doubled_set(scene: Scene) -> Sequence[str]:
    """The newer set once more, under an id of its own: two name one database backup."""
    twin = redated(scene.item, timedelta(seconds=1))
    vault.write_whole(scene.file(twin), [sets.dump(twin)])
    return f"sets/{twin.id}.json names the database backup", f"of set {scene.item.id}"


def stray_file(scene: Scene) -> Sequence[str]:
    """Somebody's notes among the sets."""
    (scene.store / sets.SETS / "notes.txt").write_text("back up before the move", encoding="utf-8")
    return ("sets/notes.txt",)


def flipped_check(scene: Scene) -> Sequence[str]:
    """What the last verification found is not what it says."""
    flip(scene.store / sets.CHECKS / f"{scene.item.id}.json")
    return (f"checks/{scene.item.id}.json",)


def lost_checks(scene: Scene) -> Sequence[str]:
    """Nobody knows of any set of the vault that it is good."""
    remove(scene.store / sets.CHECKS)
    return "store holds no good backup", f"{scene.item.id} is unverified", f"{scene.base.id} is unverified"


def label(scene: Scene, item: BackupSet) -> str:
    """Of the set's database backup in the vault."""
    return item.database.backups["store"].label


def database_files(repository: Path, name: str) -> list[Path]:
    """Of a database backup, largest first."""
    found = (repository / "backup" / STANZA / name / "pg_data").rglob("*.lz4")
    return sorted(found, key=lambda path: (-path.stat().st_size, str(path)))


def database_file(change: Change, *, off_site: bool = False) -> Damage:
    """The largest file of the older set's database backup, on which the newer one rests."""

    def do(scene: Scene) -> Sequence[str]:
        where: Place = "off_site" if off_site else "store"
        root = sets.places(scene.home)[where] / "pgbackrest"
        path = database_files(root, scene.base.database.backups[where].label)[0]
        change(path)
        return (path.name.removesuffix(".lz4"),)

    return do


def swapped_database_files(scene: Scene) -> Sequence[str]:
    """The two largest."""
    one, other, *_ = database_files(scene.repository, label(scene, scene.base))
    swap(one, other)
    return one.name.removesuffix(".lz4"), other.name.removesuffix(".lz4")


def backup_folder(change: Change, path: str = "") -> Damage:
    """The folder of the older set's database backup, or what lies in it."""

    def do(scene: Scene) -> Sequence[str]:
        change(scene.repository / "backup" / STANZA / label(scene, scene.base) / path)
        return (label(scene, scene.base),)

    return do


def half_written_backup(scene: Scene) -> Sequence[str]:
    """Cut off while its files were copied: no manifest, only the draft of one."""
    folder = scene.repository / "backup" / STANZA
    half = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}F"
    shutil.copytree(folder / label(scene, scene.base), half, copy_function=os.link)
    (half / "backup.manifest").unlink()
    for path in (half, *half.rglob("*")):
        shutil.copystat(folder, path) if path.is_dir() else None
        os.chown(path, folder.stat().st_uid, folder.stat().st_gid)
    return "half-written backup", half.name


def expired_backup(scene: Scene) -> Sequence[str]:
    """Somebody expired it with pgBackRest's own command."""
    backup.stanza(layout_of(scene.home, scene.tools)).expire(label(scene, scene.item))
    return (f"{label(scene, scene.item)} is not in the repository",)


def info(change: Change, path: str) -> Damage:
    """One of pgBackRest's own lists."""

    def do(scene: Scene) -> Sequence[str]:
        change(scene.repository / path.format(stanza=STANZA))
        return (Path(path).name,)

    return do


def archived(scene: Scene, name: str) -> Path:
    """File of a WAL segment."""
    (found,) = (scene.repository / "archive" / STANZA).glob(f"*/*/{name}-*")
    return found


def wal(change: Change, which: Callable[[Scene], str]) -> Damage:
    """One segment."""

    def do(scene: Scene) -> Sequence[str]:
        name = which(scene)
        change(archived(scene, name))
        return (name,)

    return do


def of_the_backup(scene: Scene) -> str:
    """The segment in which the newer database backup ends."""
    found = scene.item.database.backups["store"]
    return segment(found.timeline, place(found.stop_lsn) // SEGMENT_BYTES)


def in_between(scene: Scene) -> str:
    """A segment behind the older set's marker, that no backup needs for itself."""
    return segment(scene.base.database.backups["store"].timeline, number(scene.base.database.marker_wal) + 1)


def newest_wal(scene: Scene) -> Sequence[str]:
    """The end of the archive, from the newer set's marker on."""
    last = scene.item.database.marker_wal
    for path in list((scene.repository / "archive" / STANZA).glob("*/*/*-*")):
        if path.name[:24] >= last:
            path.unlink()
    return (f"missing WAL {last}",)


def all_wal(scene: Scene) -> Sequence[str]:
    """Not one segment is left."""
    for path in list((scene.repository / "archive" / STANZA).glob("*/*/*-*")):
        path.unlink()
    return of_the_backup(scene), "missing WAL"


def lost_repository(scene: Scene) -> Sequence[str]:
    """Database backups and WAL; the objects are there."""
    remove(scene.repository)
    return ("repository 1",)


def empty_bucket(scene: Scene) -> Sequence[str]:
    """Nothing is left in the vault."""
    for path in scene.store.iterdir():
        remove(path)
    return ("store holds no good backup",)


def wrong_key(scene: Scene) -> Sequence[str]:
    """The configuration has another cipher pass than the repository was made with."""
    lines = scene.config.read_text(encoding="utf-8").splitlines()
    changed = ["repo1-cipher-pass=another" if line.startswith("repo1-cipher-pass=") else line for line in lines]
    rewrite(scene.config, "\n".join(changed).encode())
    return "cipher pass", "repository 1"


def off_site_object(scene: Scene) -> Sequence[str]:
    """Damaged there, whole here."""
    name = scene.named("/model.onnx")
    flip(vault.path_of(scene.off_site, scene.item.objects[name].sha256))
    return name, "is altered", str(scene.off_site)


def off_site_behind(scene: Scene) -> Sequence[str]:
    """Nothing was brought there since a day and a half."""
    old = redated(scene.base, timedelta(hours=-36))
    for item in (scene.base, scene.item):
        sets.remove(scene.off_site, item.id)
    vault.write_whole(scene.off_site / sets.SETS / f"{old.id}.json", [sets.dump(old)])
    sets.write_check(scene.off_site, old, [], old.ended.timestamp())
    return "the newest good backup of off_site", old.id, "the plan allows 26 h"


def off_site_gone(scene: Scene) -> Sequence[str]:
    """The second place is empty."""
    remove(scene.off_site)
    return ("off_site holds no good backup",)


def dated(newer: timedelta, older: timedelta, *says: str) -> Damage:
    """Both sets made at other times than they were."""

    def do(scene: Scene) -> Sequence[str]:
        names: Mapping[str, str] = {}
        for name, item, by in (("newer", scene.item, newer), ("older", scene.base, older)):
            other = redated(item, by)
            if by:
                put(scene, other, instead_of=item)
            names = {**names, name: other.id}
        return [word.format(**names) for word in says]

    return do


def lost_object(root: Path, scene: Scene) -> None:
    """One is not restored."""
    remove(root / scene.named("/model.onnx"))


def altered_object(root: Path, scene: Scene) -> None:
    """One is restored with another content."""
    flip(root / scene.named("/model.onnx"))


def invented_object(root: Path, scene: Scene) -> None:
    """One is there that the backup never held."""
    path = root / "ml-datasets" / "invented"
    path.write_bytes(b"from elsewhere")


def nothing(scene: Scene) -> Sequence[str]:
    """For what is done to restored objects: their names."""
    return (scene.named("/model.onnx"),)
