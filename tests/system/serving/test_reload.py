"""The registry's alias moves fifty times under a real process that answers all the while."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest

from system.model.artifact import read_manifest, sha256_file
from system.model.engines import open_engine
from system.model.transform import to_tensor

KEY = "the-test-key"
MOVES = 50
CONNECTIONS = 8
PAUSE_S = 0.004  # about a thousand requests a second: the machine has other things to do
MOST_GROWTH_BYTES = 6_000_000  # over forty swaps: labels in the metrics take 1.4 MB, models that stay would take 18

Expected = dict[tuple[str, int], npt.NDArray[np.float32]]


class Users:
    """Eight connections that ask without end, and check every answer against the model that it says it is from."""

    def __init__(self, port: int, images: list[bytes], expected: Expected) -> None:
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._port = port
        self._images = images
        self._expected = expected
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CONNECTIONS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self._threads)

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.connect()
        first = connection.sock
        index = number
        try:
            while not self._stopping.wait(PAUSE_S):
                index = (index + 1) % len(self._images)
                headers = {"X-API-Key": KEY, "Content-Type": "image/jpeg"}
                connection.request("POST", "/predict", self._images[index], headers)
                response = connection.getresponse()
                self._judge(index, response.status, response.getheader("X-Model-Version", ""), response.read())
                if connection.sock is not first:
                    self.wrong.append("the connection was closed")
                    return
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
        finally:
            connection.close()

    def _judge(self, index: int, status: int, version: str, body: bytes) -> None:
        if status != 200:
            self.wrong.append(f"{status} {body!r}")
            return
        answer = json.loads(body)
        expected = self._expected.get((version, index))
        if expected is None or answer["model_version"] != version:
            self.wrong.append(f"version {version!r} in the head, {answer['model_version']!r} in the body")
        elif np.abs(np.array(answer["probabilities"]) - expected).max() > 1e-6:
            self.wrong.append(f"this is not what version {version} says: {answer}")
        self.seen[version] += 1

    def until_answered_by(self, version: str, within_s: float = 10) -> None:
        before, deadline = self.seen[version], time.monotonic() + within_s
        while self.seen[version] == before:
            assert not self.wrong, self.wrong[:3]
            assert time.monotonic() < deadline, f"version {version} answers nobody within {within_s} s: {dict(self.seen)}"
            time.sleep(0.01)


@contextmanager
def _process(place: Any, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **place.environment(registry_poll_s=0.1, recorder_capacity=1), "ML_PORT": str(port)}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "system", "serve"], env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 20
        while not _is_ready(port):
            assert time.monotonic() < deadline, f"not ready within 20 s\n{log.read_text()}"
            time.sleep(0.05)
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _resident_bytes(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(90)
def test_fifty_moves_of_the_alias_fail_no_request_and_mix_no_answer(
    place: Any, make_picture: Any, free_port: Callable[[], int], tmp_path: Path
) -> None:
    images = [make_picture(seed=seed) for seed in range(4)]
    expected: Expected = {}

    def publish(number: int) -> Path:
        folder: Path = place.publish(str(number), seed=number, promote=False)
        manifest = read_manifest(folder)
        engine = open_engine(folder, manifest, manifest.variants[0])
        for index, image in enumerate(images):
            expected[folder.name, index] = engine(to_tensor(image, "image/jpeg", max_pixels=10**6))[0]
        return folder

    published = [publish(1)]
    point(place, "1", vouched(published[0]))
    resident = []
    port, log = free_port(), tmp_path / "log"
    with _process(place, port, log) as process, Users(port, images, expected) as users:
        for move in range(MOVES):
            back = move % 5 == 4  # every fifth is a way back
            if not back:
                published.append(publish(len(published) + 1))
            folder = published[-2] if back else published[-1]
            point(place, folder.name, vouched(folder))
            users.until_answered_by(folder.name)
            resident.append(_resident_bytes(process))
            if move == MOVES // 2:
                _offer_a_corrupt_one(place, log, users)
                point(place, folder.name, vouched(folder))
        growth = resident[-1] - resident[9]
    apart = [np.abs(expected[f"{number}", 0] - expected[f"{number + 1}", 0]).max() for number in range(1, len(published))]
    assert min(apart) > 1e-3  # else a mix could not be told
    assert not users.wrong, users.wrong[:3]
    assert set(users.seen) == {folder.name for folder in published}
    assert sum(users.seen.values()) > 1000
    assert growth < MOST_GROWTH_BYTES, [size // 1_000_000 for size in resident]
    assert len(list((place.root / "cache/digits-resnet8").iterdir())) <= 4


def vouched(folder: Path) -> dict[str, str]:
    return {"sha256": sha256_file(folder / "model.onnx"), "manifest_sha256": sha256_file(folder / "manifest.json")}


def point(place: Any, version: str, tags: dict[str, str]) -> None:
    """Move the production alias; it is away for a moment, but never with the checksums of another version."""
    place.registry.version, place.registry.tags = "", tags
    place.registry.version = version


def _offer_a_corrupt_one(place: Any, log: Path, users: Users) -> None:
    folder = place.publish("999", seed=999, promote=False)
    tags, data = vouched(folder), bytearray((folder / "model.onnx").read_bytes())
    data[-100] ^= 1
    (folder / "model.onnx").write_bytes(data)
    point(place, "999", tags)
    deadline = time.monotonic() + 10
    while "version 999 is not taken into service" not in log.read_text():
        assert time.monotonic() < deadline, f"not refused within 10 s\n{log.read_text()}"
        time.sleep(0.02)
    time.sleep(0.3)  # the loop looks again, three times
    assert "999" not in users.seen
