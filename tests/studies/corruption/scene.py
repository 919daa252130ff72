"""Backups of a system, detached from it: a home of their own that can be damaged, since files are replaced and never changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sre.dr import sets, vault
from sre.dr.sets import BackupSet
from sre.errors import StepFailed
from sre.targets.local.layout import MEMBERS, Layout

# What a home needs so that its backups can be listed, verified and restored while nothing runs there.
PARTS = ("secrets", "config", "data/objects", "offsite")
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Scene:
    """A home in which nothing runs, with two backup sets in both places.

    Attributes:
        home: its folder.
        tools: folder of unpacked programs.
        base: the older set, full.
        item: the newer set, differential.
    """

    home: Path
    tools: Path
    base: BackupSet
    item: BackupSet

    @property
    def store(self) -> Path:
        """The vault."""
        return sets.places(self.home)["store"]

    @property
    def off_site(self) -> Path:
        """Its second place."""
        return sets.places(self.home)["off_site"]

    @property
    def repository(self) -> Path:
        """Of pgBackRest, in the vault."""
        return self.store / "pgbackrest"

    @property
    def config(self) -> Path:
        """Of pgBackRest."""
        return self.home / "config" / MEMBERS[0] / "pgbackrest.conf"

    def file(self, item: BackupSet) -> Path:
        """Of a set, in the vault."""
        return self.store / sets.SETS / f"{item.id}.json"

    def named(self, end: str) -> str:
        """The object of the model in production whose name ends so."""
        (model,) = self.item.registry.values()
        return next(name for name in model.versions[model.aliases["production"]] if name.endswith(end))

    def content(self, name: str) -> Path:
        """Of an object, in the vault."""
        return vault.path_of(self.store, self.item.objects[name].sha256)


def detach(source: Layout, home: Path, base: BackupSet, item: BackupSet) -> Scene:
    """Copy two backups of a system, which may run meanwhile, as links to the same files on the same disk.

    Raises:
        StepFailed: the repository never held still; the message says which file was in the way.
    """
    for _ in range(_TRIES):
        if not (words := _linked(source.home, home)):
            break
        shutil.rmtree(home)
    else:
        raise StepFailed(f"the backups of {source.home} cannot be copied: {words}; is it archiving all the time?")
    scene = Scene(home, source.tools, base, item)
    _moved(scene, source.home)
    for root in (scene.store, scene.off_site):
        for name in sets.listing(root).sets.keys() - {base.id, item.id}:
            sets.remove(root, name)
    return scene


def copy(scene: Scene, home: Path) -> Scene:
    """Another one, to be damaged."""
    _linked(scene.home, home)
    copied = Scene(home, scene.tools, scene.base, scene.item)
    _moved(copied, scene.home)
    return copied


def rewrite(path: Path, content: bytes) -> None:
    """Put another file in a file's place, with its owner and mode: other scenes share the old one."""
    state = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.chown(path, state.st_uid, state.st_gid)
    path.chmod(state.st_mode & 0o7777)


def _linked(source: Path, home: Path) -> str:
    """Why it failed; a file that is being archived comes and goes."""
    for part in PARTS:
        (home / part).parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["cp", "-al", source / part, home / part], capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()[-300:]
    home.chmod(0o755)
    (home / "data").chmod(0o755)
    return ", ".join(str(path) for path in home.rglob("*.pgbackrest.tmp"))


def _moved(scene: Scene, old: Path) -> None:
    rewrite(scene.config, scene.config.read_bytes().replace(bytes(old), bytes(scene.home)))
