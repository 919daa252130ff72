"""Another version of a system's model, registered as training would do it, in milliseconds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from sre.targets.local.layout import Layout
from sre.targets.registry import Registry
from system.config import MODEL_NAME
from system.model.artifact import MANIFEST_NAME, read_manifest, sha256_file, write_manifest

_BUCKET = "ml-models-production"


def versions(layout: Layout) -> set[str]:
    """Those that the object store holds."""
    return {folder.name for folder in (layout.objects / _BUCKET / MODEL_NAME).iterdir()}


def register_copy(layout: Layout, of: str = "1") -> str:
    """Register the files of one version once more; the new version's number."""
    registry = Registry(layout.url("mlflow"))
    source = registry.version(of)
    assert source is not None
    made = registry.create(source, {**source.tags, "manifest_sha256": "0" * 64})
    store = layout.objects / _BUCKET / MODEL_NAME
    folder = Path(shutil.copytree(store / of, store / made.number))
    write_manifest(replace(read_manifest(folder), version=made.number), folder)
    for path in folder.iterdir():
        registry.put(made, path.name, path.read_bytes())
    registry.tag(made, "manifest_sha256", sha256_file(folder / MANIFEST_NAME))
    return made.number
