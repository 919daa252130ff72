"""The folder of verified versions, also as several processes share it."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from system.errors import RegistryError, StorageError
from system.model.artifact import sha256_file
from system.serving.cache import Cache
from system.serving.registry import Registered

OLD_S = 7200


def registered(published: Path) -> Registered:
    """What the registry says about a folder of the bucket."""
    return Registered(published.name, sha256_file(published / "model.onnx"), sha256_file(published / "manifest.json"))


def folder_of(place: Any) -> Path:
    return Path(place.root) / "cache/digits-resnet8"


def names(place: Any) -> set[str]:
    return {path.name for path in folder_of(place).iterdir()}


def test_a_version_is_fetched_whole_once(place: Any) -> None:
    published = place.publish("4")
    wanted, cache = registered(published), Cache(place.settings())
    assert not cache.holds(wanted)
    folder, manifest = cache.obtain(wanted)
    assert (folder, manifest.version) == (folder_of(place) / "4", "4")
    assert _contents(folder) == _contents(published)
    assert names(place) == {"4"}
    shutil.rmtree(published)
    assert cache.holds(wanted)
    assert cache.obtain(wanted)[0] == folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.json"])
def test_a_damaged_copy_is_fetched_again(place: Any, name: str) -> None:
    wanted, cache = registered(place.publish("1")), Cache(place.settings())
    folder, _ = cache.obtain(wanted)
    good = (folder / name).read_bytes()
    for damage in (lambda: (folder / name).write_bytes(good[:-1]), (folder / name).unlink):
        damage()
        assert not cache.holds(wanted)
        cache.obtain(wanted)
        assert (folder / name).read_bytes() == good
    assert names(place) == {"1"}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _change_manifest(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | changes))


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (lambda folder: _flip(folder / "model.onnx"), "was altered"),
        (lambda folder: _flip(folder / "golden.npz"), "was altered"),
        (lambda folder: _change_manifest(folder, labels=list("9876543210")), "manifest.json has sha256"),
        (lambda folder: _change_manifest(folder, model="another"), "manifest.json has sha256"),
    ],
)
def test_what_the_registry_does_not_vouch_for_leaves_no_trace(place: Any, sabotage: Callable[[Path], None], said: str) -> None:
    published = place.publish("1")
    wanted = registered(published)
    sabotage(published)
    with pytest.raises(RegistryError, match=said):
        Cache(place.settings()).obtain(wanted)
    assert names(place) == set()


def test_a_model_under_another_version_is_refused(place: Any) -> None:
    published = place.publish("1")
    published = published.rename(published.parent / "2")
    with pytest.raises(RegistryError, match=r"holds digits-resnet8 version 1 .* the registry says digits-resnet8 2"):
        Cache(place.settings()).obtain(registered(published))


def test_a_missing_file_is_a_matter_of_storage(place: Any) -> None:
    published = place.publish("1")
    (published / "golden.npz").unlink()
    with pytest.raises(StorageError, match=r"1/golden\.npz does not exist"):
        Cache(place.settings()).obtain(registered(published))


def test_a_cache_that_cannot_be_used_is_named(place: Any) -> None:
    published = place.publish("1")
    (place.root / "cache").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"the cache .* cannot be used: .*; check space and rights"):
        Cache(place.settings()).obtain(registered(published))


def test_what_was_served_is_found_latest_first_and_only_unaltered(place: Any) -> None:
    cache = Cache(place.settings())
    known = {version: registered(place.publish(version, seed=seed)) for seed, version in enumerate(("8", "9", "10", "11"))}
    for wanted in known.values():
        cache.obtain(wanted)
    for version in ("10", "8", "11"):  # 9 was a challenger, or never fit to serve; in the end the alias went back to 8
        cache.served(known[version])
        _age(folder_of(place) / version / ".served-production", by_s=100 if version == "10" else 50)
    cache.served(known["8"])
    assert [found for _, _, found in cache.last_served()] == [known["8"], known["11"], known["10"]]
    _change_manifest(folder_of(place) / "11", labels=["x"] * 10)
    (folder_of(place) / "10/.served-production").write_bytes(b"\xff")
    assert [(folder.name, manifest.version) for folder, manifest, _ in cache.last_served()] == [("8", "8")]
    assert not list(Cache(place.settings(model_alias="another")).last_served())


def test_a_mark_that_cannot_be_left_does_no_harm(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    Cache(place.settings()).served(Registered("1", "0" * 64, "0" * 64))
    assert "does not remember version 1" in caplog.text


def _age(path: Path, by_s: float) -> None:
    then = time.time() - by_s
    os.utime(path, (then, then))


def test_the_last_three_obtained_stay_and_what_is_in_use(place: Any) -> None:
    cache = Cache(place.settings())
    for age, version in enumerate(("6", "5", "4", "3", "2", "1")):  # by use, not by number: 6 is the latest
        wanted = registered(place.publish(version))
        cache.obtain(wanted)
        _age(folder_of(place) / version, by_s=100 + age)
    cache.prune({"1"})
    assert names(place) == {"6", "5", "4", "1"}
    cache.obtain(wanted)  # used again
    cache.prune(set())
    assert names(place) == {"1", "6", "5"}


def test_what_a_killed_process_left_goes_after_an_hour(place: Any) -> None:
    root = folder_of(place)
    for name, age_s in ((".fetch-old", OLD_S), (".gone-old", OLD_S), (".fetch-new", 0), (".other", OLD_S)):
        (root / name / "1").mkdir(parents=True)
        _age(root / name, age_s)
    Cache(place.settings()).prune(set())
    assert names(place) == {".fetch-new", ".other"}


def test_processes_that_fetch_and_delete_at_once_only_ever_see_whole_versions(place: Any) -> None:
    known = [registered(place.publish(str(number), seed=number)) for number in range(1, 6)]
    unexpected: list[BaseException] = []
    obtained = []

    def work(offset: int) -> None:
        cache = Cache(place.settings())
        for turn in range(10):
            wanted = known[(turn * 2 + offset) % 5]
            try:
                cache.obtain(wanted)
                obtained.append(wanted)
                cache.prune(set())
            except StorageError:  # another one deleted it in between: the caller asks again
                pass
            except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
                unexpected.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not unexpected
    assert len(obtained) > 20
    left = names(place)
    assert 0 < len(left) <= 3
    assert all(Cache(place.settings()).holds(wanted) == (wanted.version in left) for wanted in known)
