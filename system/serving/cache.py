"""Verified model files on this machine, one folder per version: a restart and a way back need no registry and no download.

Several processes may share the folder. A version appears whole, by a rename, and goes whole, by another; whoever finds that a
version went while it was being loaded gets it again.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from time import time_ns

from system.config import ServeSettings
from system.errors import RegistryError, StorageError
from system.model.artifact import MANIFEST_NAME, Manifest, files, read_manifest, sha256_file, verify
from system.serving.registry import Registered
from system.storage.objects import open_store

log = logging.getLogger(__name__)

BUCKET = "ml-models-production"
KEPT = 3
_FETCH, _GONE = ".fetch-", ".gone-"
_ABANDONED_NS = 3600 * 10**9  # what a killed process left behind; no fetch takes so long


class Cache:
    """The folder of one model."""

    def __init__(self, settings: ServeSettings) -> None:
        self._model = settings.model_name
        self._folder = settings.cache_dir / settings.model_name
        self._objects = open_store(settings.objects_url)
        self._marker = f".served-{settings.model_alias}"

    def obtain(self, registered: Registered) -> tuple[Path, Manifest]:
        """The folder of a version, every file as the registry vouches for it; fetched unless it is here already.

        Raises:
            RegistryError: the bucket holds something else than the registry says.
            StorageError: bucket or cache cannot be used.
        """
        folder = self._folder / registered.version
        try:
            manifest = self._held(folder, registered)
            if manifest is None:
                self._fetch(folder, registered)
                manifest = self._held(folder, registered)
            if manifest is None:
                raise StorageError(f"{folder} went while it was fetched: others share the cache; it is fetched again")
            os.utime(folder)  # the order of use decides what is kept
        except OSError as error:
            raise StorageError(f"the cache {self._folder} cannot be used: {error.strerror}; check space and rights") from error
        return folder, manifest

    def holds(self, registered: Registered) -> bool:
        """Whether every file of the version is here, unaltered."""
        return self._held(self._folder / registered.version, registered) is not None

    def served(self, registered: Registered) -> None:
        """Remember that the registry's alias named this version, and that it could be served."""
        try:
            (self._folder / registered.version / self._marker).write_text(registered.manifest_sha256, encoding="ascii")
        except OSError as error:  # it only costs a start without the registry
            log.warning("the cache %s does not remember version %s: %s", self._folder, registered.version, error.strerror)

    def last_served(self) -> Iterator[tuple[Path, Manifest, Registered]]:
        """What the alias named and could be served, latest first, each verified: for a start while the registry is away."""
        for marker in sorted(self._folder.glob(f"[0-9]*/{self._marker}"), key=_changed_at, reverse=True):
            folder = marker.parent
            try:
                registered = Registered(folder.name, read_manifest(folder).sha256, marker.read_text(encoding="ascii"))
                yield folder, self._verified(folder, registered), registered
            except (OSError, ValueError, RegistryError) as error:
                log.warning("skipping a cached model: %s", error)

    def prune(self, in_use: Collection[str]) -> None:
        """Delete all versions but those in use and the last three that were obtained, by whichever process."""
        versions = sorted(self._folder.glob("[0-9]*"), key=_changed_at, reverse=True)
        for folder in versions[KEPT:]:
            if folder.name not in in_use:
                with suppress(OSError):  # another process was faster
                    self._remove(folder)
        for folder in self._folder.glob(".*"):
            if folder.name.startswith((_FETCH, _GONE)) and time_ns() - _changed_at(folder) > _ABANDONED_NS:
                shutil.rmtree(folder, ignore_errors=True)

    def _held(self, folder: Path, registered: Registered) -> Manifest | None:
        try:
            return self._verified(folder, registered)
        except (OSError, RegistryError):
            return None

    def _verified(self, folder: Path, registered: Registered) -> Manifest:
        self._check_manifest(folder, registered)
        manifest = verify(folder)
        found = (manifest.model, manifest.version, manifest.sha256)
        expected = (self._model, registered.version, registered.sha256)
        if found != expected:
            raise RegistryError(
                f"{folder} holds {found[0]} version {found[1]} with sha256 {found[2]}, "
                f"the registry says {' '.join(expected)}; register the model again"
            )
        return manifest

    @staticmethod
    def _check_manifest(folder: Path, registered: Registered) -> None:
        found = sha256_file(folder / MANIFEST_NAME)
        if found != registered.manifest_sha256:
            raise RegistryError(
                f"{folder / MANIFEST_NAME} has sha256 {found}, the registry says {registered.manifest_sha256}; "
                "it was altered, register the model again"
            )

    def _fetch(self, folder: Path, registered: Registered) -> None:
        """Put the version's files into the cache, whole and verified, or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_FETCH, dir=self._folder, ignore_cleanup_errors=True) as temporary:
            fresh = Path(temporary) / registered.version
            fresh.mkdir()
            self._copy(MANIFEST_NAME, fresh)
            self._check_manifest(fresh, registered)
            for name in files(read_manifest(fresh)):
                self._copy(name, fresh)
            self._verified(fresh, registered)
            if folder.exists() and not self.holds(registered):
                self._remove(folder)
            with suppress(OSError):  # another process was faster; what it put there is verified again before use
                fresh.rename(folder)

    def _copy(self, name: str, into: Path) -> None:
        self._objects.copy(BUCKET, f"{self._model}/{into.name}/{name}", into / name)

    def _remove(self, folder: Path) -> None:
        """Take a version away at once, then delete its files: nobody ever finds half of them."""
        with tempfile.TemporaryDirectory(prefix=_GONE, dir=self._folder, ignore_cleanup_errors=True) as temporary:
            folder.rename(Path(temporary) / folder.name)


def _changed_at(path: Path) -> int:
    """Nanoseconds since 1970."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # another process removed it meanwhile
        return 0
