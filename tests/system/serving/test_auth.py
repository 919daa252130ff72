from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from system import telemetry
from system.errors import Forbidden, RateLimited, Unauthorized
from system.serving import auth
from system.serving.auth import Bucket, Keys


def _file(folder: Path, document: Any) -> Path:
    path = folder / "keys.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _entry(key: bytes, name: str = "someone", **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key).hexdigest(), **more}


def _keys(folder: Path, *entries: dict[str, Any], workers: int = 1) -> Keys:
    return Keys(_file(folder, {"keys": entries}), workers=workers)


def _stale() -> float | None:
    return telemetry.REGISTRY.get_sample_value("api_keys_stale")


def test_every_listed_key_passes_and_no_other(tmp_path: Path) -> None:
    keys = _keys(tmp_path, _entry(b"first", "a"), _entry(b"zw\xf6lf", "b"), _entry(b"third", "c"))
    assert [keys.require(known, "predict").name for known in (b"first", b"zw\xf6lf", b"third")] == ["a", "b", "c"]
    for unknown in (b"", b"second", b"first ", b"First", _entry(b"first")["sha256"].encode()):
        with pytest.raises(Unauthorized, match="not known"):
            keys.require(unknown, "predict")
    with pytest.raises(Unauthorized, match="X-API-Key"):
        keys.require(None, "predict")


def test_every_known_digest_is_compared_whichever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return left == right

    keys = _keys(tmp_path, _entry(b"first"), _entry(b"second"), _entry(b"third"))
    monkeypatch.setattr(auth, "compare_digest", counting)
    keys.require(b"first", "predict")
    keys.require(b"third", "predict")
    with pytest.raises(Unauthorized):
        keys.require(b"none", "predict")
    assert len(compared) == 9


def test_a_scope_is_given_and_never_implied(tmp_path: Path) -> None:
    keys = _keys(tmp_path, _entry(b"p", "p"), _entry(b"a", "a", scopes=["admin"]), _entry(b"b", "b", scopes=["admin", "predict"]))
    assert keys.require(b"a", "admin").name == "a"
    assert keys.require(b"b", "admin") == keys.require(b"b", "predict")
    with pytest.raises(Forbidden, match=r"'p' lacks the scope 'admin'"):
        keys.require(b"p", "admin")
    with pytest.raises(Forbidden, match=r"'a' lacks the scope 'predict'"):
        keys.require(b"a", "predict")


def test_a_key_ends_at_its_instant(tmp_path: Path) -> None:
    keys = _keys(
        tmp_path,
        _entry(b"old", not_after="2001-01-01T00:00:00Z"),
        _entry(b"new", not_after="2999-01-01T00:00:00+01:00"),
    )
    assert keys.require(b"new", "predict").name == "someone"
    with pytest.raises(Unauthorized, match="'someone' has expired"):
        keys.require(b"old", "predict")


def test_both_keys_of_a_rotation_share_one_rate(tmp_path: Path) -> None:
    keys = _keys(tmp_path, *(_entry(key, "client", rate_per_s=0.002) for key in (b"old", b"new")), workers=2)
    keys.require(b"old", "predict")
    with pytest.raises(RateLimited, match=r"'client' may send 0\.002 requests a second; wait (\d+)\.\d+ s") as caught:
        keys.require(b"new", "predict")
    assert 900 < float(str(caught.value).rpartition("wait ")[2].removesuffix(" s")) <= 1000  # this process has half of the rate


def test_a_refusal_for_another_reason_uses_up_no_rate(tmp_path: Path) -> None:
    keys = _keys(tmp_path, _entry(b"k", rate_per_s=0.001))
    for _ in range(3):
        with pytest.raises(Forbidden):
            keys.require(b"k", "admin")
    keys.require(b"k", "predict")


@given(rate=st.floats(0.1, 1000), gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=60), start=st.floats(0, 1e6))
def test_no_span_of_time_has_more_than_its_rate_and_one_second_more(rate: float, gaps: list[float], start: float) -> None:
    bucket, now, passed = Bucket(rate), start, []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= max(1.0, rate) + rate * (passed[last] - passed[first]) + 1e-3


def test_a_bucket_lets_one_second_go_at_once_and_says_when_the_next_may() -> None:
    bucket = Bucket(10)
    assert [bucket.take(100.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.05) == pytest.approx(0.05)  # a refusal costs nothing
    assert bucket.take(100.1) == 0.0
    assert bucket.take(100.1) > 0
    assert [bucket.take(200.0) for _ in range(11)][:10] == [0.0] * 10  # idle time is no credit beyond that second
    assert bucket.take(200.0) > 0


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"keys": []}, "keys: List should have at least 1 item"),
        ({"keys": [{"name": "a", "sha256": "a-real-key-by-mistake"}]}, "keys.0.sha256: String should match"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "scope": "all"}]}, "keys.0.scope: Extra inputs are not permitted"),
        ({"keys": [_entry(b"k", scopes=["root"])]}, "keys.0.scopes.0: Input should be 'predict' or 'admin'"),
        ({"keys": [_entry(b"k", scopes=[])]}, "keys.0.scopes: Frozenset should have at least 1 item"),
        ({"keys": [_entry(b"k", rate_per_s=0)]}, "keys.0.rate_per_s: Input should be greater than 0"),
        ({"keys": [_entry(b"k", not_after="2027-01-01T00:00:00")]}, "keys.0.not_after: Input should have timezone info"),
        ({}, "keys: Field required"),
        ("not json", "file: Invalid JSON"),
    ],
)
def test_a_file_that_is_not_right_is_refused_without_quoting_it(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"keys\.json is not") as caught:
        Keys(_file(tmp_path, document))
    assert said in str(caught.value)
    assert "a-real-key" not in str(caught.value)


def test_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lists one key more than once, under a, b"):
        _keys(tmp_path, _entry(b"k", "a"), _entry(b"k", "b"), _entry(b"other", "c"))
    with pytest.raises(ValueError, match="gives 'a' two rates"):
        _keys(tmp_path, _entry(b"k", "a", rate_per_s=1), _entry(b"l", "a"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.json cannot be read: No such file"):
        Keys(tmp_path / "absent.json")


def test_a_changed_file_counts_at_the_next_look(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "system.serving.auth")
    keys = _keys(tmp_path, _entry(b"old", "client"))
    keys.look()
    assert not caplog.records
    fresh = tmp_path / "fresh"
    fresh.write_text(json.dumps({"keys": [_entry(b"old", "client"), _entry(b"new", "client")]}))
    fresh.replace(tmp_path / "keys.json")
    with pytest.raises(Unauthorized):
        keys.require(b"new", "predict")
    keys.look()
    keys.require(b"new", "predict")
    keys.require(b"old", "predict")
    _file(tmp_path, {"keys": [_entry(b"new", "client")]})  # in place
    keys.look()
    keys.require(b"new", "predict")
    with pytest.raises(Unauthorized):
        keys.require(b"old", "predict")
    assert [record.getMessage() for record in caplog.records] == [
        "API keys in use: client, client",
        "API keys in use: client",
    ]


def test_a_broken_file_keeps_the_old_keys_and_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = _keys(tmp_path, _entry(b"old"))
    path = _file(tmp_path, '{"keys": [{"name": "a", "sha256": "a-real-key-by-mistake"}]}')
    for _ in range(3):
        keys.look()
        keys.require(b"old", "predict")
    (record,) = caplog.records
    assert "the API keys from before stay in use" in record.getMessage()
    assert "a-real-key" not in caplog.text
    assert _stale() == 1
    path.unlink()
    for _ in range(3):
        keys.look()
        keys.require(b"old", "predict")
    assert len(caplog.records) == 2
    assert "cannot be read" in caplog.records[1].getMessage()
    _file(tmp_path, {"keys": [_entry(b"new")]})
    keys.look()
    keys.require(b"new", "predict")
    assert _stale() == 0


def test_the_links_of_a_mounted_secret_are_followed(tmp_path: Path) -> None:
    def version(name: str, key: bytes) -> None:
        (tmp_path / name).mkdir()
        _file(tmp_path / name, {"keys": [_entry(key)]})
        os.utime(tmp_path / name / "keys.json", (1, 1))  # same size and same time: only the file behind the link differs
        (tmp_path / "fresh").symlink_to(name)
        (tmp_path / "fresh").replace(tmp_path / "..data")

    version("..1", b"old")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    keys = Keys(tmp_path / "keys.json")
    version("..2", b"new")
    keys.look()
    keys.require(b"new", "predict")
    with pytest.raises(Unauthorized):
        keys.require(b"old", "predict")


def test_a_new_file_is_no_fresh_allowance(tmp_path: Path) -> None:
    limited = _entry(b"k", "client", rate_per_s=0.001)
    keys = _keys(tmp_path, limited)
    keys.require(b"k", "predict")
    _file(tmp_path, {"keys": [limited, _entry(b"other", "another")]})
    keys.look()
    keys.require(b"other", "predict")
    with pytest.raises(RateLimited):
        keys.require(b"k", "predict")
    _file(tmp_path, {"keys": [_entry(b"k", "client", rate_per_s=0.002)]})
    keys.look()
    keys.require(b"k", "predict")


async def test_watching_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    keys = _keys(tmp_path, _entry(b"old"))
    watching = asyncio.create_task(keys.watch(0.005))
    _file(tmp_path, "broken")
    deadline = time.monotonic() + 10
    while _stale() != 1:
        assert time.monotonic() < deadline, "the broken file was not looked at"
        await asyncio.sleep(0.005)
    _file(tmp_path, {"keys": [_entry(b"a new one")]})
    while _stale() != 0:
        assert time.monotonic() < deadline, "the good file was not looked at"
        await asyncio.sleep(0.005)
    keys.require(b"a new one", "predict")
    watching.cancel()


@pytest.fixture
def base(place: Any, free_port: Callable[[], int], tmp_path: Path) -> Iterator[str]:
    """A real process without a model: a good key gets 503, a bad one 401."""
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, **place.environment(), "ML_PORT": str(port)}
        process = subprocess.Popen([sys.executable, "-m", "system", "serve"], env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, (tmp_path / "log").read_text()
        log_text = (tmp_path / "log").read_text()
        assert "the-test-key" not in log_text
        assert "the-next-key" not in log_text
    finally:
        process.terminate()
        process.wait(30)


def test_keys_rotate_without_a_restart(base: str, place: Any) -> None:
    headers = {"Content-Type": "image/jpeg"}

    def status(key: str) -> int | str:
        try:
            return httpx.post(f"{base}/predict", content=b"x", headers=headers | {"X-API-Key": key}, timeout=5).status_code
        except httpx.TransportError as error:
            return repr(error)

    def until(expected: dict[str, int], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while (last := {key: status(key) for key in expected}) != expected:
            assert time.monotonic() < deadline, f"not {expected} within {within_s} s (last: {last})"
            time.sleep(0.05)

    until({"the-test-key": 503, "the-next-key": 401})
    both = [_entry(b"the-test-key", "client"), _entry(b"the-next-key", "client")]
    _file(place.root, {"keys": both})
    until({"the-test-key": 503, "the-next-key": 503})
    _file(place.root, {"keys": both[1:]})
    until({"the-test-key": 401, "the-next-key": 503})
