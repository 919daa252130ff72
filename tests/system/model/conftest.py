"""A small network with weights of its own, and its artifact."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from system.model import artifact, engines
from system.model.artifact import FP32, ONNX_NAME, Facts, Manifest
from system.model.export import export_onnx
from system.model.network import ResNet8
from system.model.transform import Pixels

FACTS = Facts(
    model="digits",
    version="3",
    labels=tuple("0123456789"),
    metrics={"accuracy": 0.99},
    dataset_version="2026-01-01-120000",
    git_sha="unknown",
)


def _pixels(count: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def network() -> ResNet8:
    torch.manual_seed(7)
    made = ResNet8(np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32))
    made.train()
    made(torch.from_numpy(_pixels(64)))
    return made


@pytest.fixture(scope="session")
def sealed(network: ResNet8, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole artifact with one variant; nobody writes to it."""
    folder = tmp_path_factory.mktemp("sealed")
    export_onnx(network, folder / ONNX_NAME)
    only = artifact.describe(folder, FP32, accuracy=0.99, agreement=1.0)
    artifact.seal(folder, FACTS, [only], engines.golden(folder, _pixels(32)))
    return folder


@pytest.fixture
def folder(sealed: Path, tmp_path: Path) -> Path:
    """The same, of the test's own."""
    shutil.copytree(sealed, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def pixels() -> Pixels:
    """uint8 (300, 32, 32, 3)."""
    return _pixels(300)


@pytest.fixture
def manifest(sealed: Path) -> Manifest:
    """That of `folder`."""
    return artifact.read_manifest(sealed)
