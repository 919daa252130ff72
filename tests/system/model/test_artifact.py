from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from system.errors import RegistryError
from system.model import artifact
from system.model.artifact import FP32, GOLDEN_NAME, INT8_NAME, MANIFEST_NAME, ONNX_NAME, Facts, Golden, Manifest, Variant


def variant(precision: artifact.Precision, file: str = ONNX_NAME) -> Variant:
    return Variant(
        name=precision, file=file, sha256="0" * 64, engine="onnxruntime", precision=precision, accuracy=1.0, agreement=1.0
    )


def test_a_manifest_reads_back_as_it_was(folder: Path, manifest: Manifest) -> None:
    artifact.write_manifest(manifest, folder)
    assert artifact.read_manifest(folder) == manifest


def test_the_file_is_what_readers_were_promised(folder: Path) -> None:
    document = json.loads((folder / MANIFEST_NAME).read_text())
    sha256 = hashlib.sha256((folder / ONNX_NAME).read_bytes()).hexdigest()
    assert document["schema"] == "ml.model/2"
    assert document["input"] == {"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}
    assert document["sha256"] == sha256
    assert document["golden_sha256"] == hashlib.sha256((folder / GOLDEN_NAME).read_bytes()).hexdigest()
    assert document["variants"] == [
        {
            "name": "fp32",
            "file": "model.onnx",
            "sha256": sha256,
            "engine": "onnxruntime",
            "precision": "fp32",
            "accuracy": 0.99,
            "agreement": 1,
        }
    ]


def test_sealing_again_gives_the_same_bytes(folder: Path, manifest: Manifest) -> None:
    facts = Facts(**{field.name: getattr(manifest, field.name) for field in fields(Facts)})
    before = (folder / MANIFEST_NAME).read_bytes()
    assert artifact.seal(folder, facts, manifest.variants, artifact.read_golden(folder)) == manifest
    assert (folder / MANIFEST_NAME).read_bytes() == before


def test_the_side_is_that_of_the_golden_images(folder: Path, manifest: Manifest) -> None:
    assert manifest.side == 32
    facts = Facts(**{field.name: getattr(manifest, field.name) for field in fields(Facts)})
    large = Golden(np.zeros((1, 224, 224, 3), np.uint8), np.zeros((1, 10), np.float32))
    assert artifact.seal(folder, facts, manifest.variants, large).side == 224
    assert artifact.read_manifest(folder).side == 224


def test_the_files_are_named_once_each(folder: Path, manifest: Manifest) -> None:
    (folder / INT8_NAME).write_bytes(b"int8")
    more = [artifact.describe(folder, name, accuracy=0.9, agreement=0.9) for name in ("int8", "openvino-bf16")]
    assert artifact.files(replace(manifest, variants=(*manifest.variants, *more))) == (ONNX_NAME, INT8_NAME, GOLDEN_NAME)


def test_verify_returns_the_manifest_of_a_whole_artifact(folder: Path) -> None:
    assert artifact.verify(folder).version == "3"


@pytest.mark.parametrize("name", [ONNX_NAME, INT8_NAME, GOLDEN_NAME])
def test_verify_refuses_a_file_that_was_altered_after_its_manifest(folder: Path, manifest: Manifest, name: str) -> None:
    (folder / INT8_NAME).write_bytes(b"int8")
    extra = artifact.describe(folder, "int8", accuracy=0.99, agreement=1)
    artifact.write_manifest(replace(manifest, variants=(*manifest.variants, extra)), folder)
    artifact.verify(folder)
    body = bytearray((folder / name).read_bytes())
    body[len(body) // 2] ^= 1
    (folder / name).write_bytes(body)
    with pytest.raises(RegistryError, match=rf"{name} .*it was altered"):
        artifact.verify(folder)


def test_verify_refuses_a_manifest_of_another_graph(folder: Path, manifest: Manifest) -> None:
    other = replace(manifest.variants[0], sha256="0" * 64)
    artifact.write_manifest(replace(manifest, sha256="0" * 64, variants=(other,)), folder)
    with pytest.raises(RegistryError, match=f"its manifest says {'0' * 64}"):
        artifact.verify(folder)


@pytest.mark.parametrize(
    ("name", "said"), [(ONNX_NAME, "cannot be read"), (GOLDEN_NAME, "cannot be read"), (MANIFEST_NAME, "is missing")]
)
def test_verify_refuses_half_an_artifact(folder: Path, name: str, said: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RegistryError, match=said):
        artifact.verify(folder)


def _first(**changed: Any) -> Callable[[dict[str, Any]], str]:
    return lambda document: json.dumps(document | {"variants": [document["variants"][0] | changed]})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: "{", "cannot be read as a manifest"),
        (lambda _: "[]", "has schema None"),
        (lambda document: json.dumps(document | {"schema": "ml.model/1"}), "has schema 'ml.model/1', not 'ml.model/2'"),
        (lambda document: json.dumps({k: v for k, v in document.items() if k != "sha256"}), "sha256"),
        (lambda document: json.dumps(document | {"metrics": {"accuracy": "good"}}), "metrics"),
        (lambda document: json.dumps(document | {"variants": []}), "the first variant is not fp32 on model.onnx"),
        (_first(name="int8"), "the first variant is not fp32"),
        (_first(sha256="0" * 64), "the first variant is not fp32 on model.onnx with the model's own sha256"),
        (_first(engine="tensorrt"), "engine"),
        (_first(file="../model.onnx"), "not a plain name that ends in .onnx"),
        (_first(file="/etc/passwd"), "not a plain name"),
        (lambda document: json.dumps(document | {"variants": document["variants"] * 2}), "two variants have the same name"),
        (lambda document: json.dumps(document | {"input": {"shape": ["batch", 32, 31, 3]}}), r"not \(batch, side, side, 3\)"),
        (lambda document: json.dumps(document | {"input": {"shape": ["batch", 3, 32, 32]}}), r"not \(batch, side, side, 3\)"),
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, damage: Callable[[dict[str, Any]], str], said: str) -> None:
    document = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(damage(document))
    with pytest.raises(RegistryError, match=said):
        artifact.read_manifest(folder)


def test_a_checksum_of_bytes_is_that_of_the_file(folder: Path) -> None:
    assert artifact.sha256_hex((folder / ONNX_NAME).read_bytes()) == artifact.sha256_file(folder / ONNX_NAME)


def _array(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "cannot be read as golden answers"),
        (lambda path: path.write_bytes(b""), "cannot be read as golden answers"),
        (lambda path: path.write_bytes(b"PK\3\4 no archive"), "cannot be read as golden answers"),
        (_array(images=np.zeros((1, 2, 2, 3), np.uint8)), "cannot be read as golden answers"),
        (_array(images=np.array([object()]), probabilities=np.zeros((1, 2), np.float32)), "cannot be read as golden answers"),
        (
            _array(images=np.zeros((2, 2, 2, 3), np.uint8), probabilities=np.zeros((1, 2), np.float32)),
            r"holds uint8 \(2, 2, 2, 3\)",
        ),
        (_array(images=np.zeros((0, 2, 2, 3), np.uint8), probabilities=np.zeros((0, 2), np.float32)), "holds uint8"),
        (_array(images=np.zeros((1, 2, 2, 3), np.uint8), probabilities=np.zeros((1, 2))), "float64"),
    ],
)
def test_damaged_golden_answers_are_refused(folder: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(folder / GOLDEN_NAME)
    with pytest.raises(RegistryError, match=said):
        artifact.read_golden(folder)


@pytest.fixture
def golden() -> Golden:
    """40 answers, each quite sure of one of ten classes."""
    answers = np.full((40, 10), 0.05, np.float32)
    answers[np.arange(40), np.arange(40) % 10] = 0.55
    return Golden(np.zeros((40, 2, 2, 3), np.uint8), answers)


def swapped(answers: artifact.Probabilities, count: int) -> artifact.Probabilities:
    """The first answers give their class to the next one."""
    found = answers.copy()
    found[:count] = np.roll(found[:count], 1, axis=1)
    return found


def test_golden_answers_satisfy_their_own_check(golden: Golden) -> None:
    assert golden.complaint(golden.probabilities, variant("fp32")) is None
    assert golden.complaint(golden.probabilities, variant("int8")) is None


@pytest.mark.parametrize(
    ("precision", "difference", "holds"),
    [("fp32", 0.0009, True), ("fp32", 0.0011, False), ("bf16", 0.009, True), ("int8", 0.011, False)],
)
def test_probabilities_may_differ_within_the_bound(
    golden: Golden, precision: artifact.Precision, difference: float, *, holds: bool
) -> None:
    found = golden.probabilities + np.float32(difference)
    assert (golden.complaint(found, variant(precision)) is None) == holds


@pytest.mark.parametrize(("precision", "count", "holds"), [("int8", 2, True), ("int8", 3, False), ("fp32", 1, False)])
def test_classes_may_differ_within_the_bound(golden: Golden, precision: artifact.Precision, count: int, *, holds: bool) -> None:
    close = golden.probabilities.copy()
    close[:] = 0.1
    close[np.arange(40), np.arange(40) % 10] += 0.0001
    nearly = Golden(golden.images, close)  # so close to each other that only the classes tell them apart
    said = nearly.complaint(swapped(close, count), variant(precision))
    assert (said is None) == holds
    assert holds or f"{1 - count / 40:.1%} of the 40 golden images" in str(said)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_one_number_that_is_not_finite_is_a_complaint(golden: Golden, precision: artifact.Precision, wrong: float) -> None:
    found = golden.probabilities.copy()
    found[7, 3] = wrong
    assert "not finite" in (golden.complaint(found, variant(precision)) or "")


def test_another_shape_is_a_complaint(golden: Golden) -> None:
    said = golden.complaint(golden.probabilities[:, :9], variant("fp32"))
    assert said == "fp32 answers (40, 9) to the golden images, not (40, 10)"


def test_a_variant_is_described_by_its_name(folder: Path) -> None:
    (folder / artifact.OPENVINO_INT8_NAME).write_bytes(b"graph")
    found = artifact.describe(folder, "openvino-int8", accuracy=0.9, agreement=0.95)
    assert (found.engine, found.precision, found.file) == ("openvino", "int8", "model.openvino-int8.onnx")
    assert found.sha256 == hashlib.sha256(b"graph").hexdigest()
    assert artifact.describe(folder, FP32, accuracy=1, agreement=1).file == ONNX_NAME
