"""Evaluate: how good the exported model is on the test split, and how good the model in production is on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from system.model.artifact import ONNX_NAME, Manifest
from system.model.engines import answers, open_graph
from system.training.features import Part
from system.training.validate import CLASSES

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Quality on one set of images; each 0 to 1, precision, recall and F1 as plain means over the classes."""

    accuracy: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is known before a model may be registered.

    Attributes:
        images: how many the test split has.
        scores: of the new model.
        confusion: (10, 10) counts; rows are the true class, columns the predicted one.
        production: version of the model in production; None when there is none.
        production_scores: of that model on the same images.
    """

    images: int
    scores: Scores
    confusion: tuple[tuple[int, ...], ...]
    production: str | None = None
    production_scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The model in production: its verified manifest, and the folder that holds its graph."""

    manifest: Manifest
    folder: Path


def evaluate(onnx: Path, test: Part, incumbent: Incumbent | None) -> Evaluation:
    """Score the graph that would be served, and the one that is, on the same images."""
    confusion = _confusion(onnx, test)
    return Evaluation(
        images=len(test.labels),
        scores=scores(confusion),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        production=incumbent.manifest.version if incumbent else None,
        production_scores=scores(_confusion(incumbent.folder / ONNX_NAME, test)) if incumbent else None,
    )


def scores(confusion: Counts) -> Scores:
    """Everything that follows from a confusion matrix, int (classes, classes), with at least one image.

    A class that was never predicted has precision 0; one without images has recall 0. F1 is the harmonic mean of the two.
    """
    hits = np.diag(confusion)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    return Scores(
        accuracy=float(hits.sum() / confusion.sum()),
        precision=float((hits / np.maximum(predicted, 1)).mean()),
        recall=float((hits / np.maximum(actual, 1)).mean()),
        f1=float((2 * hits / np.maximum(predicted + actual, 1)).mean()),
    )


def _confusion(onnx: Path, part: Part) -> Counts:
    counts = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    np.add.at(counts, (part.labels, answers(open_graph(onnx), part.images).argmax(axis=1)), 1)
    return counts
