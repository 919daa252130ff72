from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from system.config import TrainSettings
from system.errors import ModelRejected, RegistryError, StorageError
from system.model.artifact import (
    FP32,
    GOLDEN_NAME,
    INT8_NAME,
    MANIFEST_NAME,
    ONNX_NAME,
    describe,
    files,
    sha256_file,
    sha256_hex,
    verify,
)
from system.model.engines import golden
from system.model.export import Parity, export_onnx
from system.model.network import ResNet8
from system.model.variants import Trial
from system.storage.objects import FolderStore
from system.training import register as register_module
from system.training.evaluate import Evaluation, Scores
from system.training.features import Features
from system.training.fit import Epoch
from system.training.register import BUCKET, Candidate, export, gate, production_model, register

MakeSettings = Callable[..., TrainSettings]


def make_scores(accuracy: float) -> Scores:
    return Scores(accuracy=accuracy, precision=0.9, recall=0.9, f1=0.9)


def make_evaluation(accuracy: float, production: float | None = None) -> Evaluation:
    return Evaluation(
        images=270,
        scores=make_scores(accuracy),
        confusion=((1, 2), (3, 4)),
        production=None if production is None else "1",
        production_scores=None if production is None else make_scores(production),
    )


@pytest.fixture
def candidate(data: Features, tmp_path: Path) -> Candidate:
    folder = tmp_path / "candidate"
    folder.mkdir()
    export_onnx(ResNet8(data.mean, data.std), folder / ONNX_NAME)
    (folder / INT8_NAME).write_bytes(b"an int8 graph")
    int8 = describe(folder, "int8", accuracy=0.94, agreement=0.99)
    return Candidate(
        folder=folder,
        parity=Parity(largest_difference=1e-7, top1_agreement=1.0),
        evaluation=make_evaluation(0.95),
        trials=[
            Trial(name=FP32, variant=describe(folder, FP32, accuracy=0.95, agreement=1.0), microseconds=236.0),
            Trial(name="int8", variant=int8, microseconds=127.0),
            Trial(name="openvino-bf16", refused="openvino-bf16 cannot be tried: no library"),
        ],
        golden=golden(folder, data.test.images[:2]),
        dataset_version="2026-01-02-030405",
        epochs=[Epoch(number=1, loss=2.0, accuracy=0.5), Epoch(number=2, loss=1.0, accuracy=0.9)],
    )


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def settings(make_settings: MakeSettings) -> TrainSettings:
    return make_settings(min_accuracy=0.85)


@pytest.fixture
def client(mlflow_url: str) -> MlflowClient:
    return MlflowClient(mlflow_url, mlflow_url)


def runs(client: MlflowClient, settings: TrainSettings) -> list[Run]:
    experiment = client.get_experiment_by_name(settings.model_name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def aliases(client: MlflowClient, settings: TrainSettings) -> dict[str, str]:
    found = client.search_registered_models(f"name = '{settings.model_name}'")
    return {name: str(version) for name, version in found[0].aliases.items()} if found else {}


def test_the_first_model_is_registered_stored_and_promoted(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient
) -> None:
    manifest = register(settings, store, candidate)
    assert manifest.version == "1"
    assert aliases(client, settings) == {"production": "1"}
    tags = client.get_model_version(settings.model_name, "1").tags
    stored = store.get(BUCKET, f"{settings.model_name}/1/{ONNX_NAME}")
    assert tags["sha256"] == manifest.sha256 == sha256_hex(stored)
    assert tags["dataset_version"] == "2026-01-02-030405"
    assert tags["git_sha"] == manifest.git_sha
    names = [key.removeprefix(f"{settings.model_name}/1/") for key in store.list(BUCKET)]
    assert names == sorted([ONNX_NAME, INT8_NAME, GOLDEN_NAME, MANIFEST_NAME])
    assert tags["manifest_sha256"] == sha256_hex(store.get(BUCKET, f"{settings.model_name}/1/{MANIFEST_NAME}"))
    assert [variant.name for variant in manifest.variants] == ["fp32", "int8"]


def test_every_variant_is_measured_and_a_refused_one_says_why(
    settings: TrainSettings,
    store: FolderStore,
    candidate: Candidate,
    client: MlflowClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worse = replace(candidate.trials[1], refused="int8 has accuracy 0.9400, too low")
    manifest = register(settings, store, replace(candidate, trials=[candidate.trials[0], worse, candidate.trials[2]]))
    assert [variant.name for variant in manifest.variants] == ["fp32"]
    assert not store.exists(BUCKET, f"{settings.model_name}/1/{INT8_NAME}")
    (run,) = runs(client, settings)
    metrics = run.data.metrics
    assert (metrics["fp32_accuracy"], metrics["fp32_agreement"], metrics["fp32_us"]) == (0.95, 1, 236)
    assert (metrics["int8_accuracy"], metrics["int8_agreement"], metrics["int8_us"]) == (0.94, 0.99, 127)
    assert "openvino-bf16_us" not in metrics
    assert run.data.tags["refused_int8"] == "int8 has accuracy 0.9400, too low"
    assert run.data.tags["refused_openvino-bf16"].endswith("no library")
    assert "int8 has accuracy 0.9400, too low" in caplog.text


def test_a_float32_graph_that_fails_its_own_check_is_not_registered(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient
) -> None:
    broken = replace(candidate.trials[0], refused="fp32 answers the golden images with numbers that are not finite")
    with pytest.raises(ModelRejected, match=r"not finite; production stays as it is"):
        register(settings, store, replace(candidate, trials=[broken]))
    assert client.search_registered_models(f"name = '{settings.model_name}'") == []


def test_the_run_is_logged(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient, tmp_path: Path
) -> None:
    register(settings, store, replace(candidate, evaluation=make_evaluation(0.95, 0.9)))
    (run,) = runs(client, settings)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == str(settings.seed)
    assert run.data.metrics["accuracy"] == 0.95
    assert run.data.metrics["production_accuracy"] == 0.9
    curve = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]
    artifacts = Path(client.download_artifacts(run.info.run_id, "model", str(tmp_path)))
    assert verify(artifacts).version == "1"
    assert json.loads((artifacts / "confusion.json").read_text())["counts"] == [[1, 2], [3, 4]]


def test_what_was_registered_comes_back_as_production(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, tmp_path: Path
) -> None:
    assert production_model(settings, store, tmp_path) is None
    manifest = register(settings, store, candidate)
    found = production_model(settings, store, tmp_path)
    assert found is not None
    assert found.manifest == manifest
    for name in files(manifest):
        assert sha256_file(found.folder / name) == sha256_hex(store.get(BUCKET, f"{settings.model_name}/1/{name}"))


def test_a_model_without_the_alias_is_not_in_production(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient, tmp_path: Path
) -> None:
    register(settings, store, candidate)
    client.delete_registered_model_alias(settings.model_name, settings.model_alias)
    assert production_model(settings, store, tmp_path) is None


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (make_evaluation(0.8499), "accuracy 0.8499 on 270 images is below the bar of 0.8500"),
        (make_evaluation(0.95, 0.96), "is worse than the 0.9600 of production version 1"),
        (make_evaluation(float("nan")), "below the bar"),
    ],
)
def test_the_gate_refuses(settings: TrainSettings, evaluation: Evaluation, said: str) -> None:
    assert said in (gate(settings, evaluation) or "")


@pytest.mark.parametrize("evaluation", [make_evaluation(0.85), make_evaluation(0.95, 0.95), make_evaluation(0.95, 0.9)])
def test_the_gate_passes_what_is_good_enough_and_not_worse(settings: TrainSettings, evaluation: Evaluation) -> None:
    assert gate(settings, evaluation) is None


@pytest.mark.parametrize("accuracy", [0.5, 0.94])
def test_a_refused_model_leaves_production_and_its_files_alone(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient, accuracy: float
) -> None:
    register(settings, store, candidate)
    before = store.list(BUCKET)
    with pytest.raises(ModelRejected, match="production stays as it is"):
        register(settings, store, replace(candidate, evaluation=make_evaluation(accuracy, 0.95)))
    assert aliases(client, settings) == {"production": "1"}
    assert store.list(BUCKET) == before
    assert len(client.search_model_versions(f"name = '{settings.model_name}'")) == 1
    refused = [run for run in runs(client, settings) if "refused" in run.data.tags]
    assert [run.info.status for run in refused] == ["FAILED"]
    assert f"accuracy {accuracy:.4f}" in refused[0].data.tags["refused"]


def test_a_refused_first_model_is_not_registered(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient
) -> None:
    with pytest.raises(ModelRejected):
        register(settings, store, replace(candidate, evaluation=make_evaluation(0.1)))
    assert client.search_registered_models(f"name = '{settings.model_name}'") == []


def test_a_second_model_is_a_new_version(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient
) -> None:
    register(settings, store, candidate)
    assert register(settings, store, candidate).version == "2"
    assert aliases(client, settings) == {"production": "2"}
    assert store.exists(BUCKET, f"{settings.model_name}/1/{ONNX_NAME}")


def test_the_alias_does_not_move_when_the_bucket_cannot_be_written(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient
) -> None:
    register(settings, store, candidate)
    shutil.rmtree(store.root / BUCKET)
    (store.root / BUCKET).write_bytes(b"a file where the bucket should be")
    with pytest.raises(StorageError, match="cannot write object ml-models-production"):
        register(settings, store, candidate)
    assert aliases(client, settings) == {"production": "1"}


def damage(store: FolderStore, settings: TrainSettings) -> str:
    key = f"{settings.model_name}/1/{ONNX_NAME}"
    store.put(BUCKET, key, store.get(BUCKET, key) + b"\0")
    return "it was altered"


def lose(store: FolderStore, settings: TrainSettings) -> str:
    store.delete(BUCKET, f"{settings.model_name}/1/{ONNX_NAME}")
    return "restore the bucket"


def swap_variant(store: FolderStore, settings: TrainSettings) -> str:
    store.put(BUCKET, f"{settings.model_name}/1/{INT8_NAME}", b"another int8 graph")
    return "it was altered"


def lose_golden(store: FolderStore, settings: TrainSettings) -> str:
    store.delete(BUCKET, f"{settings.model_name}/1/{GOLDEN_NAME}")
    return "restore the bucket"


def praise(store: FolderStore, settings: TrainSettings) -> str:
    """The same files with a manifest that says more for them."""
    key = f"{settings.model_name}/1/{MANIFEST_NAME}"
    store.put(BUCKET, key, store.get(BUCKET, key).replace(b'"agreement": 0.99', b'"agreement": 1.0'))
    return "manifest.json of production model 1 .* the registry says"


def exchange(store: FolderStore, settings: TrainSettings) -> str:
    """Another graph with a manifest that agrees: only the registry can tell."""
    key = f"{settings.model_name}/1/{ONNX_NAME}"
    old = store.get(BUCKET, key)
    manifest = f"{settings.model_name}/1/{MANIFEST_NAME}"
    store.put(BUCKET, key, old + b"\0")
    store.put(BUCKET, manifest, store.get(BUCKET, manifest).replace(sha256_hex(old).encode(), sha256_hex(old + b"\0").encode()))
    return "the registry says"


@pytest.mark.parametrize("sabotage", [damage, lose, exchange, swap_variant, lose_golden, praise])
def test_production_that_is_not_what_was_registered_is_refused(
    settings: TrainSettings,
    store: FolderStore,
    candidate: Candidate,
    tmp_path: Path,
    sabotage: Callable[[FolderStore, TrainSettings], str],
) -> None:
    register(settings, store, candidate)
    said = sabotage(store, settings)
    with pytest.raises(RegistryError, match=said):
        production_model(settings, store, tmp_path)


def test_a_manifest_of_another_graph_is_refused_even_when_its_own_checksum_is_right(
    settings: TrainSettings, store: FolderStore, candidate: Candidate, client: MlflowClient, tmp_path: Path
) -> None:
    register(settings, store, candidate)
    exchange(store, settings)
    manifest = store.get(BUCKET, f"{settings.model_name}/1/{MANIFEST_NAME}")
    client.set_model_version_tag(settings.model_name, "1", "manifest_sha256", sha256_hex(manifest))
    with pytest.raises(RegistryError, match=r"model\.onnx of production model 1 .* the registry says"):
        production_model(settings, store, tmp_path)


def test_a_registry_that_is_away_is_named(
    make_settings: MakeSettings, store: FolderStore, candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = make_settings(mlflow_url="http://127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"cannot look up the production model at http://127\.0\.0\.1:9"):
        production_model(away, store, tmp_path)
    with pytest.raises(RegistryError, match=r"cannot register .* is the MLflow server up"):
        register(away, store, candidate)


def test_a_name_that_the_registry_refuses_is_an_error_and_the_run_failed(
    make_settings: MakeSettings, store: FolderStore, candidate: Candidate, client: MlflowClient
) -> None:
    odd = make_settings().model_copy(update={"model_name": "a/b:c"})  # settings refuse such a name themselves
    with pytest.raises(RegistryError, match="cannot register a/b:c"):
        register(odd, store, candidate)
    assert [run.info.status for run in runs(client, odd)] == ["FAILED"]


def test_export_writes_a_graph_that_equals_the_network(data: Features, tmp_path: Path) -> None:
    found = export(ResNet8(data.mean, data.std), tmp_path, data.test.images)
    assert found.holds
    assert (tmp_path / ONNX_NAME).exists()


def test_a_graph_that_differs_from_the_network_is_rejected(
    data: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ResNet8(np.zeros(3, np.float32), data.std)
    monkeypatch.setattr(register_module, "export_onnx", lambda _, path: export_onnx(other, path))
    with pytest.raises(ModelRejected, match="the exported graph differs from the network by up to"):
        export(ResNet8(data.mean, data.std), tmp_path, data.test.images)


def test_the_commit_is_found_and_dirt_is_told(tmp_path: Path) -> None:
    assert register_module._git_sha(tmp_path) == "unknown"

    def git(*arguments: str) -> str:
        command: list[Any] = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    commit = git("rev-parse", "HEAD")
    git("tag", "v1")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert register_module._git_sha(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert register_module._git_sha(tmp_path) == f"{commit}-dirty"
