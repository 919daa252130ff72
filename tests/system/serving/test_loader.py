"""The loop that follows the registry's aliases: real models, a registry that answers as MLflow does, a bucket in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from system import telemetry
from system.errors import ModelNotReady, RegistryError
from system.model.artifact import Manifest, sha256_file
from system.serving.loader import Build, Loader
from system.serving.predictor import Predictor
from system.serving.registry import Registered, Registry

POLL_S = 0.02


def build(folder: Path, manifest: Manifest) -> Predictor:
    return Predictor(folder, manifest)


@contextlib.asynccontextmanager
async def loading(place: Any, build: Build = build, **changes: Any) -> AsyncIterator[Loader]:
    loader = Loader(place.settings(**{"registry_poll_s": POLL_S} | changes), build)
    task = asyncio.create_task(loader.run())
    try:
        yield loader
        assert not task.done(), "the loop ended"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(what: Callable[[], object], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.005)


def value(name: str, role: str | None = None) -> float:
    return telemetry.REGISTRY.get_sample_value(name, {"role": role} if role else {}) or 0.0


def cached(place: Any) -> set[str]:
    return {path.name for path in (place.root / "cache/digits-resnet8").iterdir()}


def vouched(published: Path) -> dict[str, str]:
    return {
        "sha256": sha256_file(published / "model.onnx"),
        "manifest_sha256": sha256_file(published / "manifest.json"),
    }


def point(place: Any, version: str, tags: dict[str, str], role: str = "production") -> None:
    """Move an alias; it is away for a moment, but never with the checksums of another version."""
    registry = place.registry
    if role == "production":
        registry.version, registry.tags = "", tags
        registry.version = version
    else:
        registry.challenger, registry.challenger_tags = "", tags
        registry.challenger = version


async def load_once(place: Any) -> None:
    async with loading(place) as loader:
        await loader.check()
        assert loader.version == place.registry.version


async def test_the_alias_names_the_version_and_the_cache_keeps_it(place: Any) -> None:
    place.publish("1")
    place.publish("2", seed=1)
    place.publish("3", seed=2, promote=False)
    async with loading(place) as loader:
        assert loader.version == ""
        await loader.check()
        assert loader.version == loader.ready().version == "2"
        assert loader.challenger is None
        assert cached(place) == {"2"}
        assert value("model_version") == 2
        assert loader.status() == [{"name": "digits-resnet8", "version": "2", "state": "READY", "reason": ""}]


async def test_a_moved_alias_is_followed_and_a_request_keeps_the_model_that_it_began_with(place: Any) -> None:
    place.publish("1")
    async with loading(place) as loader:
        await until(lambda: loader.version == "1")
        held = loader.ready()
        place.publish("2", seed=1)
        await until(lambda: loader.version == "2")
        assert held.version == "1"
        image = np.full((1, 32, 32, 3), 200, np.uint8)
        old, new = await held.infer(image), await loader.ready().infer(image)
        assert np.abs(old - new).max() > 0.001


async def test_a_model_that_nobody_holds_is_released_without_a_collection(place: Any) -> None:
    place.publish("1")
    gc.disable()
    try:
        async with loading(place) as loader:
            await until(lambda: loader.production)
            held = loader.ready()
            gone = [weakref.ref(held)]
            place.publish("2", seed=1, challenge=True)
            await until(lambda: loader.challenger)
            gone.append(weakref.ref(loader.challenger))  # type: ignore[arg-type]
            place.registry.challenger = ""
            place.publish("3", seed=2)
            await until(lambda: loader.version == "3" and loader.challenger is None)
            await until(lambda: gone[1]() is None)
            assert gone[0]() is held
            del held
            assert gone[0]() is None
    finally:
        gc.enable()


async def test_the_loop_answers_while_a_model_is_built_in_a_thread_that_gives_way(place: Any) -> None:
    seen: list[tuple[str, int]] = []
    release = threading.Event()

    def slow(folder: Path, manifest: Manifest) -> Predictor:
        seen.append((threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, 0)))
        assert manifest.version == "1" or release.wait(10)
        return Predictor(folder, manifest)

    place.publish("1")
    async with loading(place, slow) as loader:
        await until(lambda: loader.version == "1")
        place.publish("2", seed=1)
        await until(lambda: len(seen) == 2)
        for _ in range(100):
            assert loader.ready().version == "1"
            await asyncio.sleep(0)
        release.set()
        await until(lambda: loader.version == "2")
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert all(name.startswith("loader") and priority == min(19, ours + 10) for name, priority in seen)


def _alter_file(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def _alter_manifest(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"labels": list("9876543210")}))


def _cannot_run(_: Path, manifest: Manifest) -> Predictor:
    raise RegistryError(f"version {manifest.version} fails its golden set")


def _cannot_even_be_tried(_: Path, manifest: Manifest) -> Predictor:
    raise ZeroDivisionError(f"in version {manifest.version}")


class Bad(NamedTuple):
    """A way to be unfit to serve, and what is said about it; a trace only where the system did not raise it on purpose."""

    said: str
    alter: Callable[[Path], None] = lambda _: None
    build: Build = build
    trace: bool = False


@pytest.mark.parametrize(
    "bad",
    [
        Bad("was altered", alter=_alter_file),
        Bad("manifest.json has sha256", alter=_alter_manifest),
        Bad("version 2 fails its golden set", build=_cannot_run),
        Bad("in version 2", build=_cannot_even_be_tried, trace=True),
    ],
)
@pytest.mark.parametrize("role", ["production", "challenger"])
async def test_a_bad_model_changes_nothing_and_is_tried_once(
    place: Any, role: str, bad: Bad, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def counted(folder: Path, manifest: Manifest) -> Predictor:
        tried.append(manifest.version)
        return (bad.build if manifest.version == "2" else build)(folder, manifest)

    place.publish("1")
    async with loading(place, counted) as loader:
        await until(lambda: loader.version == "1")
        before = value("model_refused_total", role)
        served = loader.production
        published = place.publish("2", seed=1, promote=False)
        tags = vouched(published)
        bad.alter(published)
        point(place, "2", tags, role)
        await until(lambda: value("model_refused_total", role) == before + 1)
        asked = len(place.registry.asked)
        await until(lambda: len(place.registry.asked) > asked + 8)
        assert loader.production is served
        assert loader.challenger is None
        assert value("model_refused_total", role) == before + 1
        assert tried.count("2") <= 1
        (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "version 2 is not taken into service" in error.getMessage()
        assert bad.said in error.getMessage()
        assert (error.exc_info is not None) == bad.trace
        ready, refused = loader.status()
        assert (ready["version"], ready["state"], ready["reason"]) == ("1", "READY", "")
        assert (refused["version"], refused["state"]) == ("2", "UNAVAILABLE")
        assert bad.said in refused["reason"]
        place.publish("3", seed=2, challenge=role == "challenger")
        await until(lambda: "3" in {entry["version"] for entry in loader.status()})
        assert {entry["state"] for entry in loader.status()} == {"READY"}


async def test_asked_for_a_check_it_tries_again_what_it_refused(place: Any) -> None:
    place.publish("1")
    async with loading(place, registry_poll_s=60) as loader:
        await loader.check()
        good = place.publish("2", seed=1)
        data = (good / "model.onnx").read_bytes()
        _alter_file(good)
        await loader.check()
        assert loader.version == "1"
        (good / "model.onnx").write_bytes(data)
        await asyncio.gather(loader.check(), loader.check())
        assert loader.version == "2"


async def test_a_check_that_nobody_can_make_has_an_end(place: Any) -> None:
    idle = Loader(place.settings(registry_deadline_s=0.05), build)
    with pytest.raises(ModelNotReady, match=r"still looking at the registry's models after 0\.05 s: \[\{'name'"):
        await idle.check()
    place.publish("1")
    entered, release = threading.Event(), threading.Event()

    def slow(folder: Path, manifest: Manifest) -> Predictor:
        entered.set()
        release.wait(10)
        return Predictor(folder, manifest)

    async with loading(place, slow) as loader:
        await until(entered.is_set)
        left, waits = asyncio.create_task(loader.check()), asyncio.create_task(loader.check())
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
    with pytest.raises(ModelNotReady, match="shutting down"):
        await waits
    release.set()


async def test_nothing_unverified_is_served_even_when_there_is_nothing_else(place: Any) -> None:
    place.publish("1")
    await load_once(place)  # an older version in the cache is no excuse: the registry is there and says otherwise
    bad = place.publish("2", seed=1)
    data = (bad / "model.onnx").read_bytes()
    _alter_file(bad)
    async with loading(place) as loader:
        await until(lambda: "was altered" in loader.status()[0]["reason"])
        with pytest.raises(ModelNotReady, match=r"no model is loaded: version 2 is not taken into service: .* was altered"):
            loader.ready()
        assert loader.version == ""
        (bad / "model.onnx").write_bytes(data)  # the bucket was restored; the registry says what it said before
        await until(lambda: loader.version == "2")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"version": ""}, "names no production version of digits-resnet8; train and promote a model"),
        ({"tags": {}}, "no checksum in its tag sha256"),
        ({"body": "<html>"}, "not a model version"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_the_reason_for_waiting(place: Any, answer: dict[str, Any], said: str) -> None:
    place.publish("1")
    await load_once(place)
    vars(place.registry).update(answer)
    async with loading(place) as loader:
        await until(lambda: said in loader.status()[0]["reason"])
        with pytest.raises(ModelNotReady, match=said):
            loader.ready()


def _registry_fails(place: Any) -> None:
    place.registry.status = 503


def _registry_gone(place: Any) -> None:
    place.registry.url = "http://127.0.0.1:9"


def _objects_gone(place: Any) -> None:
    place.publish("13", seed=3)
    (place.root / "objects").rename(place.root / "elsewhere")


@pytest.mark.parametrize("outage", [_registry_fails, _registry_gone, _objects_gone])
async def test_a_start_in_an_outage_serves_what_production_served_last(
    place: Any, outage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Not 12, a challenger; not 11, damaged; not 2, older; and the number does not decide: 10 is what the alias went back to."""
    async with loading(place) as loader:
        versions = {}
        for seed, version in enumerate(("2", "10", "11")):
            versions[version] = place.publish(version, seed=seed)
            await loader.check()
        place.publish("12", seed=4, challenge=True)
        await loader.check()
        assert loader.challenger
        point(place, "10", vouched(versions["10"]))
        await loader.check()
        point(place, "11", vouched(versions["11"]))
        await loader.check()
        place.registry.challenger = ""
    damaged = place.root / "cache/digits-resnet8/11/model.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    outage(place)
    caplog.set_level("INFO", "system")
    async with loading(place) as loader:
        await until(lambda: loader.production)
        assert loader.version == "10"
        assert "serving model version 10 as production from the cache, because" in caplog.text
        assert "skipping a cached model" in caplog.text


async def test_after_an_outage_the_registrys_version_replaces_the_cached_one(place: Any) -> None:
    place.publish("1")
    await load_once(place)
    place.publish("2", seed=1)
    place.registry.status = 500
    async with loading(place) as loader:
        await until(lambda: loader.version == "1")
        served = loader.production
        place.registry.status = 200
        await until(lambda: loader.version == "2")
        place.registry.status = 500
        assert served is not loader.production


async def test_what_the_registry_confirms_after_an_outage_is_not_built_again(place: Any) -> None:
    place.publish("1")
    await load_once(place)
    place.registry.status = 500
    async with loading(place) as loader:
        await until(lambda: loader.production)
        served = loader.production
        place.registry.status = 200
        await loader.check()
        assert loader.production is served


async def test_in_an_outage_the_served_models_go_on_and_one_line_says_so(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    place.publish("1")
    place.publish("2", seed=1, challenge=True)
    async with loading(place) as loader:
        await until(lambda: loader.challenger)
        models = (loader.production, loader.challenger)
        place.registry.status = 503
        asked = len(place.registry.asked)
        await until(lambda: len(place.registry.asked) > asked + 8)
        assert (loader.production, loader.challenger) == models
        assert sum("answers 503" in record.getMessage() for record in caplog.records) == 2  # one for each alias


async def test_when_the_bucket_is_back_the_version_is_fetched(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    place.publish("1")
    async with loading(place) as loader:
        await until(lambda: loader.version == "1")
        _objects_gone(place)
        await until(lambda: "does not exist" in caplog.text)
        assert loader.version == "1"
        (place.root / "elsewhere").rename(place.root / "objects")
        await until(lambda: loader.version == "13")


async def test_after_its_deadline_it_complains_once_and_keeps_trying(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with loading(place, registry_deadline_s=0.01) as loader:
        await until(lambda: "no model after 0 s, still trying" in caplog.text)
        place.publish("1")
        await until(lambda: loader.version == "1")
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1


async def test_an_alias_that_is_removed_leaves_production_and_ends_the_challenger(
    place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "system")
    place.publish("1")
    place.publish("2", seed=1, challenge=True)
    async with loading(place) as loader:
        await until(lambda: loader.challenger)
        assert value("model_challenger_version") == 2
        assert [entry["version"] for entry in loader.status()] == ["1", "2"]
        place.registry.version = place.registry.challenger = ""
        await until(lambda: loader.challenger is None)
        asked = len(place.registry.asked)
        await until(lambda: len(place.registry.asked) > asked + 4)
        assert loader.version == "1"
        assert value("model_challenger_version") == 0
        assert [entry["version"] for entry in loader.status()] == ["1"]
    said = "names no production version any more; version 1 goes on serving"
    assert sum(said in record.getMessage() for record in caplog.records) == 1
    assert "version 2 is no challenger any more" in caplog.text


async def test_a_challenger_that_is_promoted_is_not_built_again(place: Any) -> None:
    built: list[str] = []

    def counted(folder: Path, manifest: Manifest) -> Predictor:
        built.append(manifest.version)
        return Predictor(folder, manifest)

    place.publish("1")
    published = place.publish("2", seed=1, challenge=True)
    async with loading(place, counted) as loader:
        await until(lambda: loader.challenger)
        second = loader.challenger
        point(place, "2", vouched(published))
        await until(lambda: loader.version == "2" and loader.challenger is None)
        assert loader.production is second
        assert built == ["1", "2"]
    place.registry.status = 503
    async with loading(place) as loader:  # and a start without the registry knows that it was promoted
        await until(lambda: loader.version == "2")


async def test_the_way_back_needs_no_bucket(place: Any) -> None:
    async with loading(place) as loader:
        for seed in range(6):
            place.publish(str(seed + 1), seed=seed)
            await loader.check()
        assert loader.version == "6"
        assert cached(place) == {"4", "5", "6"}
        elsewhere = (place.root / "objects").rename(place.root / "elsewhere")
        for version in ("4", "5", "6", "4"):
            point(place, version, vouched(elsewhere / "ml-models-production/digits-resnet8" / version))
            await loader.check()
            assert loader.version == version


async def test_a_version_that_went_while_it_was_loaded_is_fetched_again(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[Path] = []

    def unlucky(folder: Path, manifest: Manifest) -> Predictor:
        if not lost:
            lost.append(folder)
            (folder / "model.onnx").unlink()
        return Predictor(folder, manifest)

    place.publish("1")
    async with loading(place, unlucky) as loader:
        await until(lambda: loader.version == "1")
    assert "changed while it was loaded" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_loop_outlives_what_nobody_thought_of(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, broken = Registry.resolve, [True]

    async def resolve(self: Registry, alias: str) -> Registered | None:
        return broken[0] or await real(self, alias)  # type: ignore[return-value]

    monkeypatch.setattr(Registry, "resolve", resolve)
    place.publish("1")
    async with loading(place) as loader:
        await until(lambda: "following the alias production failed" in caplog.text)
        broken.clear()
        await until(lambda: "IndexError" in caplog.text)
        broken.append(False)
        await until(lambda: loader.version == "1")
