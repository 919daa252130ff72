"""A small network with weights of its own, and its artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from system.model import artifact
from system.model.artifact import ONNX_NAME, Manifest
from system.model.export import export_onnx
from system.model.network import ResNet8
from system.model.transform import Pixels


def _pixels(count: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def _manifest(sha256: str) -> Manifest:
    return Manifest(
        model="digits",
        version="3",
        sha256=sha256,
        labels=tuple("0123456789"),
        metrics={"accuracy": 0.99},
        dataset_version="2026-01-01-120000",
        git_sha="unknown",
    )


@pytest.fixture(scope="module")
def network() -> ResNet8:
    torch.manual_seed(7)
    made = ResNet8(np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32))
    made.train()
    made(torch.from_numpy(_pixels(64)))
    return made


@pytest.fixture
def folder(network: ResNet8, tmp_path: Path) -> Path:
    """A whole artifact."""
    export_onnx(network, tmp_path / ONNX_NAME)
    artifact.write_manifest(_manifest(artifact.sha256_file(tmp_path / ONNX_NAME)), tmp_path)
    return tmp_path


@pytest.fixture
def pixels() -> Pixels:
    """uint8 (300, 32, 32, 3)."""
    return _pixels(300)


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    """That of `folder`."""
    return _manifest(artifact.sha256_file(folder / ONNX_NAME))
