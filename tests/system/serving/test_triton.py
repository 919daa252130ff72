"""Triton's own HTTP client, unmodified, against a real serving process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from system.config import MODEL_NAME
from system.contracts import V2Model, V2Server

KEY = "the-test-key"
VERSION = "3"
CLIENT = Path(__file__).with_name("triton_client.py")
START_S = 30
CLIENT_S = 30

Talk = Callable[[str], dict[str, Any]]


@pytest.fixture
def talk(place: Any, tmp_path: Path, start: Callable[..., Any], make_picture: Any) -> Talk:
    """One conversation of `triton_client.py` with `python -m system serve`, about three images of three formats."""
    place.publish(VERSION)
    images = [tmp_path / kind for kind in ("JPEG", "PNG", "WEBP")]
    for seed, image in enumerate(images):
        image.write_bytes(make_picture(image.name, seed=seed))
    server = start(place.environment())

    def converse(conversation: str) -> dict[str, Any]:
        server.until("/health/ready", 200, START_S)
        address = server.base.removeprefix("http://")
        command: list[str | Path] = [sys.executable, CLIENT, conversation, address, MODEL_NAME, VERSION, KEY, *images]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_S, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{server.log.read_text()[-3000:]}"
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return converse


def test_health_and_metadata(talk: Talk) -> None:
    told = talk("metadata")
    assert [told[name] for name in ("live", "ready", "model_ready", "version_ready")] == [True] * 4
    assert [told[name] for name in ("other_model_ready", "other_version_ready")] == [False] * 2
    assert "binary_tensor_data" in V2Server.model_validate(told["server"]).extensions
    model = V2Model.model_validate(told["model"])
    assert (model.name, model.versions) == (MODEL_NAME, [VERSION])
    assert [(tensor.name, tensor.shape) for tensor in model.inputs] == [("image", [-1]), ("pixels", [-1, 32, 32, 3])]
    assert [(tensor.name, tensor.shape) for tensor in model.outputs] == [
        ("probabilities", [-1, 10]),
        ("label", [-1]),
        ("confidence", [-1]),
    ]
    assert told["version"] == told["model"]
    assert told["other"]["status"] == "404"
    assert "'other'" in told["other"]["message"]


def test_every_form_of_a_request_gets_the_same_answer(talk: Talk) -> None:
    told = talk("inference")
    together = told["together"]
    assert (together["id"], together["model_name"], together["model_version"]) == ("r-1", MODEL_NAME, VERSION)
    expected = np.array(together["probabilities"])
    assert expected.shape == (3, 10)
    assert np.allclose(expected.sum(1), 1, atol=1e-5)
    assert len({tuple(row) for row in together["probabilities"]}) == 3  # three images, three answers
    assert together["label"] == [str(index) for index in expected.argmax(1)]
    assert together["confidence"] == expected.max(1).tolist()
    assert told["version"] == together
    assert told["json"] == together
    assert told["label"]["label"] == together["label"]
    assert "probabilities" not in told["label"]
    for name in ("one", "concurrent"):
        assert np.allclose([one["probabilities"][0] for one in told[name]], expected, atol=1e-5)
    assert [one["id"] for one in told["concurrent"]] == ["r-0", "r-1", "r-2"]
    assert told["pixels"] == told["pixels_json"]
    assert np.array(told["pixels"]["probabilities"]).shape == (2, 10)


def test_refusals_reach_the_user_of_the_client_in_words(talk: Talk) -> None:
    told = talk("refusals")
    expected = {
        "not_an_image": ("415", "`image[0]` holds 6 bytes"),
        "cut_short": ("400", "not a whole JPEG"),
        "no_key": ("401", "API key"),
        "other_model": ("404", "'other'"),
        "other_version": ("404", "'999'"),
        "compressed": ("415", "send the body uncompressed"),
        "parameter": ("400", "unknown field `timeout`"),
    }
    for name, (status, words) in expected.items():
        assert told[name]["status"] == status, told[name]
        assert words in told[name]["message"], told[name]
        assert "an exception occurred in the client" not in told[name]["message"]  # its own reading of the error failed
    assert told["afterwards"]["model_version"] == VERSION
