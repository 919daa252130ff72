from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from system import telemetry
from system.errors import ModelNotReady
from system.serving.loader import Loader

CACHED = "cache/digits-resnet8"


@contextlib.asynccontextmanager
async def loading(loader: Loader) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(loader.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(what: Callable[[], object], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.01)


async def load_once(place: Any) -> Loader:
    loader = Loader(place.settings())
    await asyncio.wait_for(loader.run(), 10)
    return loader


async def test_the_alias_names_the_version_and_the_cache_keeps_it(place: Any) -> None:
    place.publish("1")
    place.publish("2", seed=1)
    place.publish("3", seed=2, promote=False)
    loader = await load_once(place)
    assert loader.version == loader.ready().version == "2"
    assert place.registry.asked == [{"name": ["digits-resnet8"], "alias": ["production"]}]
    assert {path.name for path in (place.root / CACHED).iterdir()} == {"2"}
    assert telemetry.REGISTRY.get_sample_value("model_version") == 2


async def test_a_cached_file_saves_the_download_and_a_damaged_one_is_fetched_again(place: Any) -> None:
    published = place.publish("1")
    await load_once(place)
    kept = (place.root / CACHED / "1/model.onnx").read_bytes()
    (published / "model.onnx").rename(published / "away")
    assert (await load_once(place)).version == "1"
    (published / "away").rename(published / "model.onnx")
    (place.root / CACHED / "1/model.onnx").write_bytes(kept[:-1])
    assert (await load_once(place)).version == "1"
    assert (place.root / CACHED / "1/model.onnx").read_bytes() == kept


def _alter_file(folder: Path, registry: Any) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def _alter_file_and_manifest(folder: Path, registry: Any) -> None:
    _alter_file(folder, registry)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _other_model(folder: Path, registry: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"model": "another"}))


def _no_tag(folder: Path, registry: Any) -> None:
    registry.tags = {}


def _no_alias(folder: Path, registry: Any) -> None:
    registry.version = ""


def _not_a_version(folder: Path, registry: Any) -> None:
    registry.version = "../../etc"


def _no_json(folder: Path, registry: Any) -> None:
    registry.body = "<html>"


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (_alter_file, "was altered"),
        (_alter_file_and_manifest, "the registry says digits-resnet8 2"),
        (_other_model, "holds another version 2"),
        (_no_tag, "no tag sha256"),
        (_no_alias, "names no production version"),
        (_not_a_version, "not a model version"),
        (_no_json, "not a model version"),
    ],
)
async def test_what_cannot_be_verified_is_never_served(place: Any, sabotage: Any, said: str) -> None:
    place.publish("1")
    await load_once(place)  # and an older version in the cache is no excuse: the registry is there and says otherwise
    sabotage(place.publish("2", seed=1), place.registry)
    loader = Loader(place.settings())
    async with loading(loader):
        await until(lambda: said in loader.waiting_for)
        with pytest.raises(ModelNotReady, match="no model is loaded"):
            loader.ready()
        assert loader.version == ""


def _registry_fails(place: Any) -> None:
    place.registry.status = 503


def _registry_gone(place: Any) -> None:
    place.registry.url = "http://127.0.0.1:9"


def _objects_gone(place: Any) -> None:
    place.publish("9", seed=3)
    (place.root / "objects").rename(place.root / "elsewhere")


@pytest.mark.parametrize("outage", [_registry_fails, _registry_gone, _objects_gone])
async def test_in_an_outage_the_newest_verified_model_of_the_cache_serves(
    place: Any, outage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, version in enumerate(("2", "10", "11")):
        place.publish(version, seed=seed)
        await load_once(place)
    damaged = place.root / CACHED / "11/model.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    outage(place)
    loader = Loader(place.settings())
    caplog.set_level("INFO", "system")
    async with loading(loader):
        await until(lambda: loader.predictor)
        assert loader.version == "10"
        assert "serving model version 10 from the cache, because" in caplog.text
        assert "skipping a cached model" in caplog.text


async def test_after_an_outage_the_registrys_version_replaces_the_cached_one(place: Any) -> None:
    place.publish("1")
    await load_once(place)
    place.publish("2", seed=1)
    place.registry.status = 500
    loader = Loader(place.settings())
    async with loading(loader) as task:
        await until(lambda: loader.version == "1")
        place.registry.status = 200
        await asyncio.wait_for(asyncio.shield(task), 10)
        assert loader.version == "2"


async def test_after_its_deadline_it_complains_once_and_keeps_trying(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    loader = Loader(place.settings(registry_deadline_s=0.01))
    async with loading(loader) as task:
        await until(lambda: "no model after 0 s, still trying" in caplog.text)
        place.publish("1")
        await asyncio.wait_for(asyncio.shield(task), 10)
    assert loader.version == "1"
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1


async def test_a_cache_that_cannot_be_written_is_named(place: Any) -> None:
    place.publish("1")
    (place.root / "cache").write_text("a file where the folder should be")
    loader = Loader(place.settings())
    async with loading(loader):
        await until(lambda: "cannot be written" in loader.waiting_for)
