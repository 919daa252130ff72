from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from typing import Any

import numpy as np
import pytest

from sre.config import PROJECT
from system.errors import InvalidImage, UnsupportedMedia
from system.model.transform import to_tensor
from tests.hostile.images import JPEG, PNG, WEBP, Hostile, corpus, honest

COUNT = 10_000
MAX_PIXELS = 2_000_000

# A process of its own: memory's high-water mark is the whole process's, and decoders that crash take the process with them.
CHILD = """
import collections, json, sys, time
import numpy as np
from system.errors import InvalidImage, UnsupportedMedia
from system.model.transform import to_tensor
from tests.hostile.images import corpus

def high_water():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

count, max_pixels, side = map(int, sys.argv[1:])
items = list(corpus(count, 1))
wrong, outcomes, slowest, before = [], collections.Counter(), [0.0, ""], high_water()
for item in items:
    began = time.process_time()
    try:
        tensor = to_tensor(item.body, item.media_type, max_pixels=max_pixels, side=side)
        outcome = "decoded"
        if tensor.shape != (1, side, side, 3) or tensor.dtype != np.uint8 or not tensor.flags.c_contiguous:
            wrong.append(f"{item.name}: {tensor.dtype} {tensor.shape}")
    except (InvalidImage, UnsupportedMedia) as error:
        outcome = error.code
        if not 10 < len(str(error)) < 300:
            wrong.append(f"{item.name}: {len(str(error))} characters of message")
    except BaseException as error:
        outcome = "crashed"
        wrong.append(f"{item.name}: {error!r}")
    outcomes[f"{item.media_type if 'image/' in item.media_type else 'other'} {outcome}"] += 1
    slowest = max(slowest, [time.process_time() - began, item.name])
print(json.dumps({"wrong": wrong, "outcomes": outcomes, "slowest": slowest, "grown": high_water() - before}))
"""


@pytest.fixture(scope="module", params=[32, 224])
def seen(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What became of all of them, at one input size."""
    command = [sys.executable, "-c", CHILD, str(COUNT), str(MAX_PIXELS), str(request.param)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=PROJECT)
    assert (done.returncode, done.stderr) == (0, "")  # neither a crash nor a decoder's chatter
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_is_a_tensor_or_one_of_two_refusals(seen: dict[str, Any]) -> None:
    assert seen["wrong"] == []
    assert sum(seen["outcomes"].values()) == COUNT


def test_every_type_is_both_taken_and_refused_many_times(seen: dict[str, Any]) -> None:
    for media_type in (JPEG, PNG, WEBP):
        assert seen["outcomes"][f"{media_type} decoded"] > 200
        assert seen["outcomes"][f"{media_type} invalid-image"] > 500
    assert seen["outcomes"]["other unsupported-media-type"] > 50


def test_memory_stays_within_what_the_pixel_limit_allows(seen: dict[str, Any]) -> None:
    assert 1_000_000 < seen["grown"] < 16 * MAX_PIXELS + 32_000_000  # the transform's bound, and room for the allocator


def test_a_seed_decides_the_corpus() -> None:
    first = list(corpus(1_000, 7))
    assert first == list(corpus(1_000, 7))
    assert [item.name for item in first] != [item.name for item in corpus(1_000, 8)]
    assert len({item.name for item in first}) == len(first)
    assert all(item.media_type.isascii() for item in first)


@pytest.mark.parametrize("item", [pytest.param(item, id=item.name) for item in honest()])
def test_honest_seeds_are_taken_and_animations_refused(item: Hostile) -> None:
    if "animated" in item.name:
        with pytest.raises(InvalidImage, match="is animated"):
            to_tensor(item.body, item.media_type, max_pixels=MAX_PIXELS)
    else:
        tensor = to_tensor(item.body, item.media_type, max_pixels=MAX_PIXELS)
        assert np.ptp(tensor) > 32 or "1x1" in item.name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jpeg says 65500 x 65500", "65500 x 65500 pixels, more than"),
        ("png says 65535 x 65535", "65535 x 65535 pixels, more than"),
        ("webp says 16383 x 16383", "16383 x 16383 pixels, more than"),
        ("webp lossless says 16384 x 16384", "16384 x 16384 pixels, more than"),
        ("webp canvas 65535 x 65535", "65535 x 65535 pixels, more than"),
        ("jpeg of 5000 scans", "more than 100 scans"),
        ("png zTXt inflates", "not a whole PNG"),
        ("png iCCP inflates", "not a whole PNG"),
        ("png says 0 x 40", "not a whole PNG|none at all"),
        ("jpeg says 0 x 40", "not a whole JPEG"),
        ("jpeg inside png's signature", "not a whole PNG"),
    ],
)
def test_bombs_and_lies_are_refused_for_what_they_are(name: str, said: str) -> None:
    item = next(item for item in islice(corpus(1_000, 1), 1_000) if item.name == name)
    with pytest.raises(InvalidImage, match=said):
        to_tensor(item.body, item.media_type, max_pixels=MAX_PIXELS)


def test_another_type_is_refused_whatever_it_holds() -> None:
    others = [item for item in corpus(1_000, 1) if item.media_type not in {JPEG, PNG, WEBP}]
    assert len(others) >= 6
    for item in others:
        with pytest.raises(UnsupportedMedia):
            to_tensor(item.body, item.media_type, max_pixels=MAX_PIXELS)
