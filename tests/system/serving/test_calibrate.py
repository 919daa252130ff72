"""The choice follows what is measured here, and what was chosen is remembered for exactly as long as it holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from system.errors import RegistryError
from system.model.artifact import Manifest, Variant, sha256_file, verify, write_manifest
from system.model.transform import Pixels
from system.serving import calibrate
from system.serving.batcher import Probabilities


class Working:
    """Burns as many loops for a call and for each image as it is told."""

    def __init__(self, call: int, image: int) -> None:
        self._call = call
        self._image = image

    def __call__(self, images: Pixels, /) -> Probabilities:
        sum(range(self._call + self._image * len(images)))
        return np.zeros((len(images), 10), np.float32)


@pytest.mark.parametrize(
    ("engines", "chosen"),
    [
        ({"fp32": (0, 40_000), "int8": (0, 10_000)}, "int8"),
        ({"fp32": (0, 10_000), "int8": (0, 40_000)}, "fp32"),
        ({"fp32": (0, 10_000), "int8": (0, 9_900)}, "fp32"),
        ({"fp32": (0, 40_000), "int8": (0, 20_000), "openvino-int8": (0, 5_000)}, "openvino-int8"),
    ],
)
def test_the_fastest_is_chosen_unless_it_gains_next_to_nothing(engines: dict[str, tuple[int, int]], chosen: str) -> None:
    plan = calibrate.choose({name: Working(*cost) for name, cost in engines.items()}, 4, {})
    assert plan.variant == chosen
    assert plan.measured.keys() == engines.keys()
    assert plan.image_us == plan.measured[chosen]


@pytest.mark.parametrize(("cost", "batches"), [((40_000, 2_000), True), ((0, 20_000), False)])
def test_images_share_a_run_only_where_a_run_has_a_price_of_its_own(cost: tuple[int, int], *, batches: bool) -> None:
    assert calibrate.choose({"fp32": Working(*cost)}, 4, {}).batches is batches


@pytest.fixture
def folder(place: Any) -> Path:
    path: Path = place.publish("3")
    return path


def with_variant(folder: Path, content: bytes) -> Manifest:
    """The folder's manifest with a second variant, whose graph is `content`."""
    (folder / "model-int8.onnx").write_bytes(content)
    variant = Variant(
        name="int8",
        file="model-int8.onnx",
        sha256=sha256_file(folder / "model-int8.onnx"),
        engine="onnxruntime",
        precision="int8",
        accuracy=0.99,
        agreement=1.0,
    )
    manifest = verify(folder)
    manifest = replace(manifest, variants=(*manifest.variants[:1], variant))
    write_manifest(manifest, folder)
    return manifest


def test_what_was_chosen_is_remembered_and_loads_no_other_engine(folder: Path) -> None:
    manifest = with_variant(folder, (folder / "model.onnx").read_bytes())
    _, first = calibrate.load(folder, manifest, calibrate.AUTO)
    assert first.measured.keys() == {"fp32", "int8"}
    other = {"fp32": "int8", "int8": "fp32"}[first.variant]
    (folder / next(found.file for found in manifest.variants if found.name == other)).unlink()
    _, again = calibrate.load(folder, manifest, calibrate.AUTO)
    assert again == first


@pytest.mark.parametrize("change", ["machine", "nonsense", "unknown variant"])
def test_a_memory_that_does_not_hold_is_measured_anew(folder: Path, change: str) -> None:
    manifest = verify(folder)
    calibrate.load(folder, manifest, calibrate.AUTO)
    file = folder / "calibration.json"
    plan = json.loads(file.read_bytes())
    if change == "machine":
        plan["machine"]["cpu"] = "another"
    elif change == "unknown variant":
        plan["variant"] = "int4"
    else:
        plan = ["nonsense"]
    file.write_text(json.dumps(plan))
    _, found = calibrate.load(folder, manifest, calibrate.AUTO)
    assert found.variant == "fp32"
    assert json.loads(file.read_bytes())["machine"] == found.machine


def test_a_variant_that_is_asked_for_is_taken_and_not_remembered(folder: Path) -> None:
    manifest = with_variant(folder, (folder / "model.onnx").read_bytes())
    _, plan = calibrate.load(folder, manifest, "int8")
    assert plan.variant == "int8"
    assert not (folder / "calibration.json").exists()
    with pytest.raises(RegistryError, match=r"no variant 'int2'; set ML_VARIANT to auto or one of fp32, int8"):
        calibrate.load(folder, manifest, "int2")


def test_a_variant_that_does_not_repeat_the_golden_set_never_serves(place: Any, folder: Path, tmp_path: Path) -> None:
    wrong = (place.publish("9", seed=9, promote=False) / "model.onnx").read_bytes()
    manifest = with_variant(folder, wrong)
    _, plan = calibrate.load(folder, manifest, calibrate.AUTO)
    assert plan.measured.keys() == {"fp32"}
    with pytest.raises(RegistryError, match=r"int8 gives .* of the 4 golden images their class"):
        calibrate.load(folder, manifest, "int8")


def test_a_model_whose_float32_graph_is_wrong_is_refused_whatever_its_variants_say(place: Any, folder: Path) -> None:
    right = (folder / "model.onnx").read_bytes()
    wrong = (place.publish("9", seed=9, promote=False) / "model.onnx").read_bytes()
    manifest = with_variant(folder, right)
    (folder / "model.onnx").write_bytes(wrong)
    with pytest.raises(RegistryError, match="cannot be served: fp32 gives"):
        calibrate.load(folder, manifest, calibrate.AUTO)
