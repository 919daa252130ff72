"""From the registry's aliases to models that answer, for as long as the process lives. Nothing unverified is served.

The loop asks which version an alias names. A new one is fetched and built beside the one that serves, in a thread of lower
priority; when everything about it is right, one assignment puts it into service. A request keeps the model that it began with:
the old one is released when the last such request lets go of it. A model that is wrong in any way changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from system.config import ServeSettings
from system.errors import MlSystemError, ModelNotReady, RegistryError, StorageError
from system.model.artifact import Manifest
from system.serving.cache import Cache
from system.serving.predictor import Predictor
from system.serving.priority import give_way
from system.serving.registry import Registered, Registry, RegistryAway
from system.telemetry import CHALLENGER_VERSION, models_refused, models_taken, serving

log = logging.getLogger(__name__)

Build = Callable[[Path, Manifest], Predictor]

_FIRST_PAUSE_S = 0.2
_STATUS = ("name", "version", "state", "reason")
_JITTER = 0.2  # replicas that start together must not ask together for ever


@dataclass(slots=True)
class _Role:
    """What is known about one alias.

    Attributes:
        name: of the role, in logs and metrics.
        alias: in the registry.
        serving: the version that serves in this role.
        previous: the one that served before it.
        refused: the version that the alias names and that is not fit to serve.
        why: it is not.
        trouble: what went wrong at the last look; empty when nothing did.
    """

    name: str
    alias: str
    serving: Registered | None = None
    previous: Registered | None = None
    refused: Registered | None = None
    why: str = ""
    trouble: str = ""


class Loader:
    """Keeps the production model, and a challenger where the registry names one.

    Attributes:
        production: the model that answers; None until the first one is verified and warm.
        challenger: the second model; None while there is no such alias, or it names the version in production.
    """

    def __init__(self, settings: ServeSettings, build: Build) -> None:
        """`build` makes a warm and checked model of a verified folder, in a worker thread; if it raises, the model is refused."""
        self.production: Predictor | None = None
        self.challenger: Predictor | None = None
        self._settings = settings
        self._build = build
        self._cache = Cache(settings)
        self._first = _Role("production", settings.model_alias, trouble="the registry's first answer")
        self._second = _Role("challenger", settings.challenger_alias)
        self._deadline = float("inf")
        self._wake = asyncio.Event()
        self._asked: list[asyncio.Future[None]] = []

    @property
    def version(self) -> str:
        """The version in production; empty while there is none."""
        return self.production.version if self.production else ""

    def ready(self) -> Predictor:
        """The model in production. Whoever holds it may use it to the end, whatever is loaded meanwhile.

        Raises:
            ModelNotReady: there is none yet.
        """
        if self.production is None:
            raise ModelNotReady(f"no model is loaded: {self._first.trouble}")
        return self.production

    def status(self) -> list[dict[str, str]]:
        """One entry per version that serves or should: name, version, state (READY or UNAVAILABLE), reason."""
        found = []
        for role, predictor in ((self._first, self.production), (self._second, self.challenger)):
            if predictor is not None:
                found.append((predictor.version, "READY", ""))
            if role.refused is not None:
                found.append((role.refused.version, "UNAVAILABLE", role.why))
            elif predictor is None and role is self._first:
                found.append(("", "UNAVAILABLE", role.trouble))
        return [dict(zip(_STATUS, (self._settings.model_name, *entry), strict=True)) for entry in found]

    async def check(self) -> None:
        """Look at the registry now, again also at what was refused, and return when that is done.

        Raises:
            ModelNotReady: it takes longer than `registry_deadline_s`, or the process is shutting down.
        """
        looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(looked)
        self._wake.set()
        within_s = self._settings.registry_deadline_s
        try:
            async with asyncio.timeout(within_s):
                await looked
        except TimeoutError:
            raise ModelNotReady(f"still looking at the registry's models after {within_s:g} s: {self.status()}") from None

    async def run(self) -> None:
        """Follow both aliases until cancelled. When the registry is away at the start, serve what it named last."""
        self._deadline = monotonic() + self._settings.registry_deadline_s
        worker = ThreadPoolExecutor(1, thread_name_prefix="loader", initializer=give_way)
        failures = 0
        try:
            async with Registry(self._settings) as registry:
                while True:
                    self._wake.clear()
                    asked = len(self._asked)
                    if asked:
                        self._first.refused = self._second.refused = None
                    failures = 0 if await self._look(registry, worker) else failures + 1
                    for looked in self._asked[:asked]:
                        if not looked.done():  # who asked may have left
                            looked.set_result(None)
                    del self._asked[:asked]
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), self._pause_s(failures))
        finally:
            worker.shutdown(wait=False, cancel_futures=True)
            for looked in self._asked:
                if not looked.done():
                    looked.set_exception(ModelNotReady("the process is shutting down"))

    def _pause_s(self, failures: int) -> float:
        pause_s = self._settings.registry_poll_s
        if failures:
            pause_s = min(pause_s, _FIRST_PAUSE_S * 2 ** min(failures - 1, 16))
        return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load, guards nothing

    async def _look(self, registry: Registry, worker: ThreadPoolExecutor) -> bool:
        """Follow both aliases once; whether all went well."""
        well = True
        for role in (self._first, self._second):
            try:
                await self._follow(role, registry, worker)
            except (RegistryError, StorageError) as error:
                well = False
                self._complain(role, str(error))
                if role is self._first and self.production is None:
                    await self._do_without(error, worker)
            except Exception:  # the loop must outlive what nobody thought of
                well = False
                log.exception("following the alias %s failed", role.alias)
        return well

    async def _follow(self, role: _Role, registry: Registry, worker: ThreadPoolExecutor) -> None:
        registered = await registry.resolve(role.alias)
        if registered is None:
            self._alias_is_gone(role)
        elif role is self._second and registered == self._first.serving:
            self._drop_challenger("is in production")
        elif registered == role.serving:
            role.refused, role.trouble = None, ""
        elif registered != role.refused or (role is self._first and self.production is None):
            await self._replace(role, registered, worker)

    async def _replace(self, role: _Role, registered: Registered, worker: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        predictor = self.challenger if registered == self._second.serving else None  # promoted: it is warm already
        if predictor is None:
            try:
                predictor = await loop.run_in_executor(worker, self._make, registered)
            except StorageError:
                raise
            except Exception as error:
                self._refuse(role, registered, error)
                raise RegistryError(role.why) from error
        self._take(role, registered, predictor, f"the registry's alias {role.alias}")
        in_use = {found.version for each in (self._first, self._second) for found in (each.serving, each.previous) if found}
        if role is self._first:
            await loop.run_in_executor(worker, self._cache.served, registered)
        await loop.run_in_executor(worker, self._cache.prune, in_use)

    def _make(self, registered: Registered) -> Predictor:
        folder, manifest = self._cache.obtain(registered)
        try:
            return self._build(folder, manifest)
        except Exception as error:
            if not self._cache.holds(registered):
                raise StorageError(f"{folder} changed while it was loaded ({error}); it is fetched again") from error
            raise

    def _take(self, role: _Role, registered: Registered, predictor: Predictor, source: str) -> None:
        if role is self._first:
            self.production = predictor
            serving(predictor.version, predictor.variant)
        else:
            self.challenger = predictor
            CHALLENGER_VERSION.set(float(predictor.version))
        role.previous, role.serving = role.serving, registered
        role.refused, role.trouble = None, ""
        models_taken(role.name).inc()
        log.info("serving model version %s as %s from %s", predictor.version, role.name, source)

    def _refuse(self, role: _Role, registered: Registered, error: Exception) -> None:
        role.why = role.trouble = f"version {registered.version} is not taken into service: {error}"
        if registered != role.refused:
            role.refused = registered
            models_refused(role.name).inc()
            # what the system raises on purpose says it all; anything else needs its trace
            log.error("%s", role.why, exc_info=None if isinstance(error, MlSystemError) else error)

    def _alias_is_gone(self, role: _Role) -> None:
        role.refused = None
        if role is self._second:
            self._drop_challenger("is no challenger any more")
        elif self.production is None:
            raise RegistryError(
                f"the registry names no {role.alias} version of {self._settings.model_name}; train and promote a model"
            )
        else:
            self._complain(role, f"the registry names no {role.alias} version any more; version {self.version} goes on serving")

    def _drop_challenger(self, why: str) -> None:
        if self.challenger is not None:
            log.info("version %s %s", self.challenger.version, why)
            CHALLENGER_VERSION.set(0)
        self.challenger = self._second.serving = self._second.refused = None
        self._second.trouble = ""

    def _complain(self, role: _Role, trouble: str) -> None:
        """Once for as long as it stays the same."""
        if trouble != role.trouble:
            role.trouble = trouble
            log.warning("the registry's %s model: %s", role.name, trouble)

    async def _do_without(self, error: Exception, worker: ThreadPoolExecutor) -> None:
        if isinstance(error, RegistryAway | StorageError):
            cached = await asyncio.get_running_loop().run_in_executor(worker, self._make_cached)
            if cached is not None:
                self._take(self._first, *cached, f"the cache, because {error}")
                return
        if monotonic() > self._deadline:
            self._deadline = float("inf")
            log.error("no model after %.0f s, still trying: %s", self._settings.registry_deadline_s, error)

    def _make_cached(self) -> tuple[Registered, Predictor] | None:
        for folder, manifest, registered in self._cache.last_served():
            try:
                return registered, self._build(folder, manifest)
            except Exception as error:  # noqa: BLE001 - as in any refusal; an older one may do
                log.warning("skipping a cached model: %s", error)
        return None
