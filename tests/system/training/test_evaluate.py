from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from system.model.artifact import FP32, ONNX_NAME, Facts, describe, seal
from system.model.engines import answers, golden, open_graph
from system.model.export import export_onnx
from system.model.network import ResNet8
from system.training.evaluate import Incumbent, evaluate, scores
from system.training.features import Features, Part


def graph(folder: Path, data: Features, answer: int) -> Path:
    """A graph that gives one class to every image."""
    folder.mkdir()
    network = ResNet8(data.mean, data.std)
    with torch.no_grad():
        network.head.bias[answer] = 1000
    export_onnx(network, folder / ONNX_NAME)
    return folder / ONNX_NAME


def test_scores_of_a_perfect_model() -> None:
    found = scores(np.diag(np.arange(1, 11)))
    assert (found.accuracy, found.precision, found.recall, found.f1) == (1, 1, 1, 1)


def test_scores_are_those_of_the_textbook() -> None:
    rng = np.random.default_rng(5)
    actual, predicted = rng.integers(0, 10, 500), rng.integers(0, 10, 500)
    predicted[actual == predicted] = actual[actual == predicted]
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (actual, predicted), 1)
    found = scores(counts)
    precision, recall, f1, _ = precision_recall_fscore_support(actual, predicted, average="macro")
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert found.accuracy == pytest.approx((actual == predicted).mean())


def test_a_class_that_is_never_predicted_or_never_true_counts_as_nothing() -> None:
    counts = np.zeros((10, 10), np.int64)
    counts[0, 0], counts[1, 0] = 3, 1
    found = scores(counts)
    assert found.accuracy == 0.75
    assert found.precision == pytest.approx(0.75 / 10)
    assert found.recall == pytest.approx(1 / 10)
    assert found.f1 == pytest.approx(6 / 7 / 10)


def test_the_graph_is_scored_on_the_part(data: Features, tmp_path: Path) -> None:
    onnx = graph(tmp_path / "new", data, 3)
    predicted = answers(open_graph(onnx), data.test.images).argmax(axis=1)
    found = evaluate(onnx, data.test, None)
    assert found.images == len(data.test.labels) == sum(map(sum, found.confusion))
    assert found.scores.accuracy == pytest.approx((predicted == data.test.labels).mean())
    assert [sum(row) for row in found.confusion] == np.bincount(data.test.labels, minlength=10).tolist()
    assert (found.production, found.production_scores) == (None, None)


def test_production_is_scored_on_the_same_images(data: Features, tmp_path: Path) -> None:
    old, new = graph(tmp_path / "old", data, 3), graph(tmp_path / "new", data, 5)
    # Labels that the old model gets right by definition, so that the two scores cannot be mixed up.
    part = Part(data.test.images, answers(open_graph(old), data.test.images).argmax(axis=1))
    facts = Facts(model="m", version="7", labels=(), metrics={}, dataset_version="", git_sha="")
    only = describe(old.parent, FP32, accuracy=1.0, agreement=1.0)
    manifest = seal(old.parent, facts, [only], golden(old.parent, data.test.images[:1]))
    found = evaluate(new, part, Incumbent(manifest, old.parent))
    assert found.production == "7"
    assert found.production_scores is not None
    assert found.production_scores.accuracy == 1
    assert found.scores.accuracy == 0
