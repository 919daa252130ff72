"""From the registry's alias to a model that answers: version, object, checksum, warm-up. Nothing unverified is served."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import httpx
import tenacity

from system.config import ServeSettings
from system.errors import ModelNotReady, RegistryError, StorageError
from system.model.artifact import MANIFEST_NAME, ONNX_NAME, Manifest, verify
from system.serving.predictor import Predictor
from system.storage.objects import ObjectStore
from system.telemetry import MODEL_VERSION

log = logging.getLogger(__name__)

BUCKET = "ml-models-production"
_REGISTRY_TIMEOUT_S = 3.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


class RegistryAway(RegistryError):
    """The registry does not answer, or says that it cannot."""


class Registered(NamedTuple):
    """The version that the registry names, and the checksum that it vouches for."""

    version: str
    sha256: str


class Loader:
    """Loads the production model and keeps it.

    Attributes:
        predictor: the loaded model; None until the first one is verified and warm.
        waiting_for: why there is none yet, for the readiness answer.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.predictor: Predictor | None = None
        self.waiting_for = "the registry's first answer"
        self._settings = settings
        self._objects = ObjectStore(settings.objects_folder)
        self._cache = settings.cache_dir / settings.model_name
        self._deadline = float("inf")

    @property
    def version(self) -> str:
        """The version that is served; empty while none is."""
        return self.predictor.version if self.predictor else ""

    def ready(self) -> Predictor:
        """The loaded model.

        Raises:
            ModelNotReady: there is none yet.
        """
        if self.predictor is None:
            raise ModelNotReady(f"no model is loaded: {self.waiting_for}")
        return self.predictor

    async def run(self) -> None:
        """Load the registry's model. Meanwhile, when the registry is away, serve the newest verified one of the cache."""
        self._deadline = monotonic() + self._settings.registry_deadline_s
        pause = tenacity.wait_exponential_jitter(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S, jitter=_FIRST_PAUSE_S)
        # one client for all attempts: making one takes tens of milliseconds, in which a cached model could not answer
        async with httpx.AsyncClient(base_url=self._settings.mlflow_url, timeout=_REGISTRY_TIMEOUT_S) as client:
            async for attempt in tenacity.AsyncRetrying(wait=pause, before_sleep=self._failed):
                with attempt:
                    registered = await self._ask_registry(client)
                    self._serve(await asyncio.to_thread(self._obtain, registered), "the registry's alias")

    async def _ask_registry(self, client: httpx.AsyncClient) -> Registered:
        name, alias = self._settings.model_name, self._settings.model_alias
        try:
            response = await client.get("/api/2.0/mlflow/registered-models/alias", params={"name": name, "alias": alias})
        except httpx.TransportError as error:
            raise RegistryAway(f"the registry at {self._settings.mlflow_url} does not answer: {error!r}") from error
        if response.status_code >= 500:
            raise RegistryAway(f"the registry at {self._settings.mlflow_url} answers {response.status_code}")
        if response.status_code != 200:
            raise RegistryError(
                f"the registry names no {alias} version of {name} (status {response.status_code}); train and promote a model"
            )
        try:
            found = response.json()["model_version"]
            version = str(int(found["version"]))
            tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"the registry's answer for {name} is not a model version: {error!r}") from error
        if "sha256" not in tags:
            raise RegistryError(f"version {version} of {name} has no tag sha256, so it cannot be verified; register it again")
        return Registered(version, tags["sha256"])

    def _obtain(self, registered: Registered) -> Predictor:
        """A warm model whose file has the checksum that both its manifest and the registry name."""
        folder = self._cache / registered.version
        if not self._holds(folder, registered):
            self._fetch(folder, registered)
        return Predictor(folder, self._verified(folder, registered))

    def _holds(self, folder: Path, registered: Registered) -> bool:
        try:
            self._verified(folder, registered)
        except RegistryError:
            return False
        return True

    def _verified(self, folder: Path, registered: Registered) -> Manifest:
        manifest = verify(folder)
        expected = (self._settings.model_name, registered.version, registered.sha256)
        if (manifest.model, manifest.version, manifest.sha256) != expected:
            raise RegistryError(
                f"{folder} holds {manifest.model} version {manifest.version} with sha256 {manifest.sha256}, "
                f"the registry says {' '.join(expected)}; register the model again"
            )
        return manifest

    def _fetch(self, folder: Path, registered: Registered) -> None:
        """Put the registered model's files into the cache, whole and verified, or not at all."""
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._cache) as temporary:
                fresh = Path(temporary) / registered.version
                fresh.mkdir()
                for name in (ONNX_NAME, MANIFEST_NAME):
                    key = f"{self._settings.model_name}/{registered.version}/{name}"
                    (fresh / name).write_bytes(self._objects.get(BUCKET, key))
                self._verified(fresh, registered)
                if folder.exists() and not self._holds(folder, registered):
                    shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # another process was faster; what it put there is verified again before use
                    fresh.rename(folder)
        except OSError as error:
            raise StorageError(f"the cache {self._cache} cannot be written: {error.strerror}; check space and rights") from error

    async def _failed(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("the registry's model is not loaded yet: %s", error)
        if self.predictor is not None:
            return
        self.waiting_for = str(error)
        if isinstance(error, RegistryAway | StorageError) and (cached := await asyncio.to_thread(self._newest_cached)):
            self._serve(cached, f"the cache, because {error}")
        elif monotonic() > self._deadline:
            self._deadline = float("inf")
            log.error("no model after %.0f s, still trying: %s", self._settings.registry_deadline_s, error)

    def _newest_cached(self) -> Predictor | None:
        folders = [folder for folder in self._cache.glob("*") if folder.name.isdigit()]
        for folder in sorted(folders, key=lambda found: int(found.name), reverse=True):
            try:
                return Predictor(folder, verify(folder))
            except RegistryError as error:
                log.warning("skipping a cached model: %s", error)
        return None

    def _serve(self, predictor: Predictor, source: str) -> None:
        self.predictor = predictor
        MODEL_VERSION.set(float(predictor.version))
        log.info("serving model version %s from %s", predictor.version, source)
