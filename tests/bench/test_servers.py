from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.bench import envs, inputs, servers
from tests.bench.goals import PEERS
from tests.bench.report import show


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_is_sent_the_same_picture(peer: str) -> None:
    jpeg = b"\xff\xd8 not really \xff\xd9"
    body = servers.asked(peer, jpeg).body
    assert jpeg in body or base64.b64encode(jpeg) in body


def test_probabilities_are_found_wherever_a_server_puts_them() -> None:
    values = [0.1, 0.2, 0.7]
    for document in (
        values,
        {"predictions": [values]},
        {"outputs": [{"shape": [1, 3], "data": values}]},
        {"confidence": 0.7, "p": values},
    ):
        assert servers.probabilities(document, 3) == values
    assert servers.probabilities({"predictions": [[1.0]]}, 3) is None


def test_pictures_are_as_large_as_the_design_says_and_the_same_every_time() -> None:
    for picture, size in ((inputs.MEDIUM, 9_900), (inputs.LARGE, 21_000)):
        body = inputs.jpeg(picture)
        assert body == inputs.jpeg(picture)
        assert abs(len(body) / size - 1) < 0.05
        assert Image.open(io.BytesIO(body)).size == (picture.width, picture.height)


def test_the_lock_says_which_libraries_every_peer_gets() -> None:
    text = (
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n"
        "pillow==13.0.0 \\\n    # numpy\n"
    )
    assert envs.locked(text, (3, 11)) == {"numpy": "2.4.6", "pillow": "13.0.0"}
    assert envs.locked(text, (3, 12)) == {"numpy": "2.5.5", "pillow": "13.0.0"}
    assert set(envs.locked(envs.LOCK.read_text(encoding="utf-8"))) == set(envs.SHARED)


def test_values_are_rounded_against_ourselves() -> None:
    assert show(1.9999, "x", up=False) == "1.99 x"
    assert show(0.10001, "share", up=True) == "10.1 %"
    assert show(217.01, "MB", up=True) == "218 MB"
    assert show(None, "ms", up=True) == "no data"
    assert show(float("nan"), "ms", up=True) == "no data"
