"""Register: a model that passes the gate goes to MLflow, its files to the production bucket, and the alias to it, in that order.

The alias moves last: whoever reads it finds the version's files in place.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from system.config import TrainSettings
from system.errors import ModelRejected, RegistryError
from system.model.artifact import (
    MANIFEST_NAME,
    ONNX_NAME,
    Facts,
    Golden,
    Manifest,
    files,
    read_manifest,
    seal,
    sha256_file,
    sha256_hex,
    verify,
)
from system.model.export import Parity, export_onnx, parity
from system.model.network import ResNet8
from system.model.transform import Pixels
from system.model.variants import Trial
from system.storage.objects import ObjectMissing, ObjectStore
from system.training.evaluate import Evaluation, Incumbent
from system.training.fit import Epoch
from system.training.validate import CLASSES

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

BUCKET = "ml-models-production"
CONFUSION_NAME = "confusion.json"
LABELS = tuple(str(label) for label in range(CLASSES))

# Read by mlflow when it is imported: no usage data leaves the machine, no chatter on stdout, and a registry that is away
# is an error within a minute instead of after ten.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
}


def export(network: ResNet8, folder: Path, images: Pixels) -> Parity:
    """Write `model.onnx` into the folder and compare it with the network on the images, uint8 (n, 32, 32, 3).

    Raises:
        ModelRejected: the graph is not the network.
    """
    export_onnx(network, folder / ONNX_NAME)
    found = parity(network, folder / ONNX_NAME, images)
    if not found.holds:
        raise ModelRejected(
            f"the exported graph differs from the network by up to {found.largest_difference:.1e} and agrees on "
            f"{found.top1_agreement:.2%} of {len(images)} images; check the exporter"
        )
    return found


def production_model(settings: TrainSettings, objects: ObjectStore, folder: Path) -> Incumbent | None:
    """Fetch and verify the model that the alias names; None when nothing has the alias yet.

    Raises:
        RegistryError: the registry is away, or its version's files are missing or not what was registered.
    """
    client = _client(settings)
    with _registry_errors(settings, "look up the production model"):
        registered = client.search_registered_models(f"name = '{settings.model_name}'")
        version = registered[0].aliases.get(settings.model_alias) if registered else None
        if version is None:
            return None
        tags = client.get_model_version(settings.model_name, version).tags
    subject = f"production model {version} of {settings.model_name}"

    def fetch(name: str) -> str:
        """Copy one file into the folder; its sha256."""
        data = objects.get(BUCKET, f"{settings.model_name}/{version}/{name}")
        (folder / name).write_bytes(data)
        return sha256_hex(data)

    def check(name: str, found: str, tag: str) -> None:
        if found != tags.get(tag):
            raise RegistryError(f"{name} of {subject} has sha256 {found}, the registry says {tags.get(tag)}; restore the bucket")

    try:
        check(MANIFEST_NAME, fetch(MANIFEST_NAME), "manifest_sha256")
        for name in files(read_manifest(folder)):
            fetch(name)
    except ObjectMissing as error:
        raise RegistryError(f"{subject}: {error}; restore the bucket") from error
    manifest = verify(folder)
    check(ONNX_NAME, manifest.sha256, "sha256")
    return Incumbent(manifest, folder)


def gate(settings: TrainSettings, evaluation: Evaluation) -> str | None:
    """Why a model may not be registered; None when it may."""
    accuracy, production = evaluation.scores.accuracy, evaluation.production_scores
    if not accuracy >= settings.min_accuracy:  # so written that NaN is refused
        return f"accuracy {accuracy:.4f} on {evaluation.images} images is below the bar of {settings.min_accuracy:.4f}"
    if production is not None and accuracy < production.accuracy:
        return (
            f"accuracy {accuracy:.4f} on {evaluation.images} images is worse than the {production.accuracy:.4f} "
            f"of production version {evaluation.production}"
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trained model that asks to be registered.

    Attributes:
        folder: holds the graphs; `golden.npz`, `manifest.json` and `confusion.json` are written beside them.
        parity: of the graph.
        evaluation: of the graph.
        trials: of its variants, float32 first.
        golden: images and answers to seal with it.
        dataset_version: that it was trained with.
        epochs: how the training went.
    """

    folder: Path
    parity: Parity
    evaluation: Evaluation
    trials: Sequence[Trial]
    golden: Golden
    dataset_version: str
    epochs: Sequence[Epoch]


def register(settings: TrainSettings, objects: ObjectStore, candidate: Candidate) -> Manifest:
    """Log the run; then, if the gate lets the model pass, register, store and promote it.

    Raises:
        ModelRejected: the gate refused; the run is logged with the reason, and nothing is registered.
        RegistryError: MLflow cannot be used; the alias has not moved.
        StorageError: the bucket cannot be written; the alias has not moved.
    """
    folder = candidate.folder
    client = _client(settings)
    tags = {"dataset_version": candidate.dataset_version, "git_sha": _git_sha(Path(__file__).parent)}
    with _run(client, settings, tags) as run_id:
        _log(client, run_id, settings, candidate)
        if reason := gate(settings, candidate.evaluation) or candidate.trials[0].refused:
            client.set_tag(run_id, "refused", reason)
            raise ModelRejected(f"{reason}; production stays as it is")
        (folder / CONFUSION_NAME).write_text(
            json.dumps({"rows": "true", "labels": LABELS, "counts": candidate.evaluation.confusion})
        )
        version = _create_version(client, settings, run_id, tags | {"sha256": sha256_file(folder / ONNX_NAME)})
        facts = Facts(
            model=settings.model_name,
            version=version,
            labels=LABELS,
            metrics=asdict(candidate.evaluation.scores),
            dataset_version=candidate.dataset_version,
            git_sha=tags["git_sha"],
        )
        passed = [trial.variant for trial in candidate.trials if trial.variant and not trial.refused]
        manifest = seal(folder, facts, passed, candidate.golden)
        for name in (*files(manifest), MANIFEST_NAME):
            client.log_artifact(run_id, str(folder / name), "model")
            objects.put(BUCKET, f"{settings.model_name}/{version}/{name}", (folder / name).read_bytes())
        client.log_artifact(run_id, str(folder / CONFUSION_NAME), "model")
        manifest_sha256 = sha256_file(folder / MANIFEST_NAME)  # vouches for every file, as the manifest names their checksums
        client.set_model_version_tag(settings.model_name, version, "manifest_sha256", manifest_sha256)
        client.set_registered_model_alias(settings.model_name, settings.release_alias, version)
    return manifest


def _client(settings: TrainSettings) -> MlflowClient:
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # noqa: PLC0415 - takes a second, and reads the environment set above

    return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)


@contextmanager
def _registry_errors(settings: TrainSettings, doing: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"cannot {doing} at {settings.mlflow_url}: {error.message}; is the MLflow server up?") from error


@contextmanager
def _run(client: MlflowClient, settings: TrainSettings, tags: dict[str, str]) -> Iterator[str]:
    """A run of the experiment named after the model; it ends FINISHED only when the block does."""
    with _registry_errors(settings, f"register {settings.model_name}"):
        experiment = client.get_experiment_by_name(settings.model_name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(settings.model_name)
        run_id: str = client.create_run(experiment_id, tags=tags).info.run_id
        status = "FAILED"
        try:
            yield run_id
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)


def _log(client: MlflowClient, run_id: str, settings: TrainSettings, candidate: Candidate) -> None:
    from mlflow.entities import Metric, Param  # noqa: PLC0415 - see _client

    now = int(time.time() * 1000)
    numbers = asdict(candidate.evaluation.scores) | {
        "parity_largest_difference": candidate.parity.largest_difference,
        "parity_top1_agreement": candidate.parity.top1_agreement,
    }
    if candidate.evaluation.production_scores is not None:
        numbers["production_accuracy"] = candidate.evaluation.production_scores.accuracy
    for trial in candidate.trials:
        if trial.refused:
            log.warning("%s", trial.refused)
            client.set_tag(run_id, f"refused_{trial.name}", trial.refused)
        if trial.variant:
            numbers[f"{trial.name}_accuracy"] = trial.variant.accuracy
            numbers[f"{trial.name}_agreement"] = trial.variant.agreement
            numbers[f"{trial.name}_us"] = trial.microseconds
    metrics = [Metric(name, value, now, 0) for name, value in numbers.items()]
    for epoch in candidate.epochs:
        metrics.append(Metric("train_loss", epoch.loss, now, epoch.number))
        metrics.append(Metric("validation_accuracy", epoch.accuracy, now, epoch.number))
    names = ("seed", "epochs", "batch_size", "learning_rate", "min_accuracy")
    client.log_batch(run_id, metrics, [Param(name, str(getattr(settings, name))) for name in names])


def _create_version(client: MlflowClient, settings: TrainSettings, run_id: str, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see _client

    try:
        client.create_registered_model(settings.model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    made = client.create_model_version(settings.model_name, source, run_id, tags, await_creation_for=0)  # it is there at once
    return str(made.version)


def _git_sha(folder: Path) -> str:
    """The commit of the checkout that holds the folder, with `-dirty` when files differ from it; "unknown" outside one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
