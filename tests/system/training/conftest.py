"""One dataset for the session; every test has its own store, and its own model name in the MLflow that all tests share."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from system.config import TrainSettings
from system.storage.objects import FolderStore, ObjectStore
from system.training.features import Features, features
from system.training.ingest import Dataset, ingest
from system.training.preprocess import preprocess

MakeSettings = Callable[..., TrainSettings]


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """The root of a store with one version of the dataset; nobody writes to it."""
    root = tmp_path_factory.mktemp("ingested")
    return root, ingest(FolderStore(root), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.fixture
def dataset(ingested: tuple[Path, Dataset]) -> Dataset:
    return ingested[1]


@pytest.fixture
def objects(ingested: tuple[Path, Dataset], tmp_path: Path) -> ObjectStore:
    """A store of the test's own that holds the dataset. `put` replaces files, so links are as good as copies."""
    shutil.copytree(ingested[0], tmp_path / "objects", copy_function=os.link)
    return FolderStore(tmp_path / "objects")


@pytest.fixture(scope="session")
def data(ingested: tuple[Path, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Features:
    root = tmp_path_factory.mktemp("features")
    shutil.copytree(ingested[0], root / "objects", copy_function=os.link)
    store = FolderStore(root / "objects")
    return features(store, ingested[1], preprocess(store, ingested[1], 1))


@pytest.fixture
def make_settings(mlflow_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> MakeSettings:
    """Settings whose store is the test's own and whose model has the test's name."""

    name = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name).strip("-")

    def make(**changed: Any) -> TrainSettings:
        own = {"objects_url": (tmp_path / "objects").as_uri(), "mlflow_url": mlflow_url, "model_name": name}
        return TrainSettings(**(own | {"epochs": 1} | changed))

    return make
