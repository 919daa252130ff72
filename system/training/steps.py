"""The training, step by step: from nothing to a model in production. Read this first.

Each step is a plain function of the work so far and says in one line what it did. The modules beside this one do the work;
they know neither the order nor each other's settings, so another conductor can call them too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from system.config import TrainSettings
from system.model.artifact import ONNX_NAME, Golden, Manifest
from system.model.engines import golden
from system.model.export import Parity
from system.model.variants import Trial, choose_golden, make_variants
from system.storage.objects import ObjectStore, open_store
from system.training import evaluate, features, fit, ingest, preprocess, register, validate
from system.training.progress import Progress, Step

if TYPE_CHECKING:
    from system.model.network import ResNet8


@dataclass(slots=True)
class Work:
    """What the steps hand on; a field is set by the step that makes it."""

    settings: TrainSettings
    objects: ObjectStore
    folder: Path
    dataset: ingest.Dataset = field(init=False)
    splits: preprocess.Splits = field(init=False)
    features: features.Features = field(init=False)
    epochs: list[fit.Epoch] = field(default_factory=list)
    network: ResNet8 = field(init=False)
    parity: Parity = field(init=False)
    evaluation: evaluate.Evaluation = field(init=False)
    golden: Golden = field(init=False)
    trials: tuple[Trial, ...] = field(init=False)
    manifest: Manifest = field(init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A training that ended with a model in production.

    Attributes:
        manifest: of the registered model.
        evaluation: of it, and of the one before it.
        parity: between its graph and its network.
        trials: of its variants, float32 first.
        seconds: that each step took.
    """

    manifest: Manifest
    evaluation: evaluate.Evaluation
    parity: Parity
    trials: tuple[Trial, ...]
    seconds: dict[str, float]


def ingest_step(work: Work, _: Step) -> str:
    """Write a new version of the dataset, unless one is asked for."""
    if work.settings.dataset:
        work.dataset = ingest.read_dataset(work.objects, work.settings.dataset)
        return f"{len(work.dataset.files):,} images of dataset {work.dataset.version}"
    work.dataset = ingest.ingest(work.objects, datetime.now(UTC))
    return f"{len(work.dataset.files):,} images as dataset {work.dataset.version}"


def validate_step(work: Work, _: Step) -> str:
    """Refuse a dataset that is damaged or implausible."""
    work.dataset = ingest.read_dataset(work.objects, work.dataset.version)
    validate.validate(work.objects, work.dataset)
    return f"{len(work.dataset.files):,} checksums, {validate.CLASSES} classes in balance"


def preprocess_step(work: Work, _: Step) -> str:
    """Draw the three parts."""
    work.splits = preprocess.preprocess(work.objects, work.dataset, work.settings.seed)
    return f"{len(work.splits.train):,} to train, {len(work.splits.validation)} to validate, {len(work.splits.test)} to test"


def features_step(work: Work, _: Step) -> str:
    """Decode the images."""
    work.features = features.features(work.objects, work.dataset, work.splits)
    return f"mean {work.features.mean.mean():.1f}, standard deviation {work.features.std.mean():.1f} of 255"


def fit_step(work: Work, step: Step) -> str:
    """Train the network and export it."""

    def told(epoch: fit.Epoch) -> None:
        work.epochs.append(epoch)
        step.advance(epoch.number, work.settings.epochs, f"epoch {epoch.number} of {work.settings.epochs}, loss {epoch.loss:.3f}")

    work.network = fit.fit(work.features, work.settings, told)
    work.parity = register.export(work.network, work.folder, work.features.test.images)
    best = max(epoch.accuracy for epoch in work.epochs)
    return f"{len(work.epochs)} epochs, validation accuracy {_percent(best)}, ONNX within {work.parity.largest_difference:.0e}"


def variants_step(work: Work, _: Step) -> str:
    """Make and measure the other ways to run the model."""
    test = work.features.test
    work.golden = golden(work.folder, test.images[choose_golden(test.labels)])
    work.trials = make_variants(work.folder, work.features.train.images, test.images, test.labels, work.golden)
    passed = [trial for trial in work.trials if not trial.refused]
    return ", ".join(f"{trial.name} {trial.microseconds:.0f} us" for trial in passed)


def evaluate_step(work: Work, _: Step) -> str:
    """Score the exported model and the one in production."""
    folder = work.folder / "production"
    folder.mkdir()
    incumbent = register.production_model(work.settings, work.objects, folder)
    work.evaluation = evaluate.evaluate(work.folder / ONNX_NAME, work.features.test, incumbent)
    before = work.evaluation.production_scores
    against = "nothing in production" if before is None else f"production has {_percent(before.accuracy)}"
    return f"accuracy {_percent(work.evaluation.scores.accuracy)}, {against}"


def register_step(work: Work, _: Step) -> str:
    """Promote the model, or refuse it."""
    candidate = register.Candidate(
        folder=work.folder,
        parity=work.parity,
        evaluation=work.evaluation,
        trials=work.trials,
        golden=work.golden,
        dataset_version=work.dataset.version,
        epochs=work.epochs,
    )
    work.manifest = register.register(work.settings, work.objects, candidate)
    return f"{work.manifest.model} version {work.manifest.version} has the alias {work.settings.release_alias}"


STEPS: tuple[Callable[[Work, Step], str], ...] = (
    ingest_step,
    validate_step,
    preprocess_step,
    features_step,
    fit_step,
    variants_step,
    evaluate_step,
    register_step,
)


def run(settings: TrainSettings, progress: Progress | None = None, results: Console | None = None) -> TrainResult:
    """Train, and promote what passes.

    Args:
        settings: everything that can be chosen.
        progress: who narrates; standard error when None.
        results: where the summary goes; standard output when None.

    Raises:
        DataError: the dataset is not fit for use.
        ModelRejected: the model is below the bar, worse than production, or was exported wrongly.
        RegistryError: MLflow is away, or the model in production is not what was registered.
        StorageError: the object store cannot be used.
    """
    progress = progress or Progress()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="ml-train-") as folder:
        work = Work(settings, open_store(settings.objects_url), Path(folder))
        for function in STEPS:
            name = function.__name__.removesuffix("_step")
            started = time.monotonic()
            with progress.step(name) as step:
                step.said = function(work, step)
            seconds[name] = time.monotonic() - started
    result = TrainResult(
        manifest=work.manifest, evaluation=work.evaluation, parity=work.parity, trials=work.trials, seconds=seconds
    )
    (results or Console()).print(summary(result), variants(result), sep="")
    return result


def summary(result: TrainResult) -> Table:
    """The outcome for people: each score beside that of the model it replaces."""
    evaluation, before = result.evaluation, result.evaluation.production_scores
    sha = result.manifest.git_sha  # 40 digits, perhaps with -dirty behind them
    table = Table(
        title=f"{result.manifest.model} version {result.manifest.version}, trained with {result.manifest.dataset_version}",
        caption=f"{evaluation.images} test images, {sum(result.seconds.values()):.1f} s, code {sha[:12]}{sha[40:]}",
        box=box.SIMPLE,
        min_width=72,
    )
    table.add_column("score")
    table.add_column("this model", justify="right")
    table.add_column(f"version {evaluation.production} before" if before else "nothing before", justify="right")
    for name in ("accuracy", "precision", "recall", "f1"):
        was = "" if before is None else _percent(getattr(before, name))
        table.add_row(name, _percent(getattr(evaluation.scores, name)), was)
    return table


def variants(result: TrainResult) -> Table:
    """Every way to run the model: what it costs, and whether it may be served."""
    table = Table(box=box.SIMPLE, min_width=72)
    table.add_column("variant")
    for name in ("accuracy", "agreement", "us an image"):
        table.add_column(name, justify="right")
    table.add_column("")
    for trial in result.trials:
        found = trial.variant
        numbers = (_percent(found.accuracy), _percent(found.agreement), f"{ceil(trial.microseconds)}") if found else ("", "", "")
        table.add_row(trial.name, *numbers, trial.refused or "served")
    return table


def _percent(ratio: float) -> str:
    """Two decimals, cut and not rounded: 99.996 % is not all."""
    return f"{floor(ratio * 10_000) / 100:.2f} %"
