from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from mlflow import MlflowClient
from rich.console import Console

from system.config import TrainSettings
from system.errors import ModelRejected
from system.model.artifact import read_golden, verify
from system.model.engines import open_engine
from system.storage.objects import FolderStore, open_store
from system.training import steps
from system.training.progress import Progress
from system.training.steps import STEPS, TrainResult, run

MakeSettings = Callable[..., TrainSettings]


def train(settings: TrainSettings) -> tuple[TrainResult, str, str]:
    """The result, what was narrated, and the summary."""
    narration, results = Console(file=io.StringIO(), width=120), Console(file=io.StringIO(), width=120)
    result = run(settings, Progress(narration), results)
    assert isinstance(narration.file, io.StringIO)
    assert isinstance(results.file, io.StringIO)
    return result, narration.file.getvalue(), results.file.getvalue()


def test_the_steps_are_those_of_the_document() -> None:
    names = [step.__name__ for step in STEPS]
    assert names == [
        f"{name}_step" for name in ("ingest", "validate", "preprocess", "features", "fit", "variants", "evaluate", "register")
    ]


def test_from_nothing_to_production_and_never_backwards(make_settings: MakeSettings, mlflow_url: str) -> None:
    result, narration, summary = train(make_settings(epochs=2, min_accuracy=0.3))
    settings = make_settings()
    store = open_store(settings.objects_url)
    assert isinstance(store, FolderStore)
    folder = store.root / "ml-models-production" / settings.model_name / "1"
    assert verify(folder) == result.manifest
    assert result.evaluation.production is None
    assert result.parity.holds
    finished = [line.split()[0] for line in narration.splitlines() if line.endswith(" ok")]  # a slow machine adds heartbeats
    assert finished == list(result.seconds)
    assert f"{settings.model_name} version 1" in summary
    assert "nothing before" in summary
    served = [line.split()[0] for line in summary.splitlines() if line.strip().endswith("served")]
    assert served == [variant.name for variant in result.manifest.variants]
    golden = read_golden(folder)
    assert golden.images.shape == (32, 32, 32, 3)
    for variant in result.manifest.variants:
        found = open_engine(folder, result.manifest, variant)(golden.images)
        assert golden.complaint(found, variant) is None

    with pytest.raises(ModelRejected, match=r"is worse than the .* of production version 1"):
        train(make_settings(learning_rate=1e-6, min_accuracy=0))
    (model,) = MlflowClient(mlflow_url, mlflow_url).search_registered_models(f"name = '{settings.model_name}'")
    assert {name: str(version) for name, version in model.aliases.items()} == {"production": "1"}
    assert [path.name for path in folder.parent.iterdir()] == ["1"]

    # The same dataset and seed give the same model; this one waits for its canary.
    dataset = result.manifest.dataset_version
    again, _, summary = train(make_settings(epochs=2, min_accuracy=0.3, dataset=dataset, release_alias="candidate"))
    (model,) = MlflowClient(mlflow_url, mlflow_url).search_registered_models(f"name = '{settings.model_name}'")
    assert {name: str(version) for name, version in model.aliases.items()} == {"production": "1", "candidate": "2"}
    assert (again.manifest.version, again.manifest.dataset_version) == ("2", dataset)
    assert again.manifest.sha256 == result.manifest.sha256  # the same digits, seed and code
    assert again.evaluation.production_scores == result.evaluation.scores
    assert "version 1 before" in summary


def test_percentages_are_cut_not_rounded() -> None:
    assert steps._percent(0.99999) == "99.99 %"
    assert steps._percent(1.0) == "100.00 %"
