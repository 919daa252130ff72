"""Another version of a system's model, registered as training would do it, in milliseconds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from sre.targets.local.layout import Layout
from system.config import MODEL_NAME
from system.model.artifact import MANIFEST_NAME, read_manifest, sha256_file, write_manifest

_BUCKET = "ml-models-production"


def versions(layout: Layout) -> set[str]:
    """Those that the object store holds."""
    return {folder.name for folder in (layout.objects / _BUCKET / MODEL_NAME).iterdir()}


def register_copy(layout: Layout, of: str = "1") -> str:
    """Register the files of one version once more; the new version's number."""
    source = _registry(layout, "GET", "get", params={"name": MODEL_NAME, "version": of})
    tags = {tag["key"]: tag["value"] for tag in source["tags"]}
    store = layout.objects / _BUCKET / MODEL_NAME
    tags["manifest_sha256"] = "0" * 64
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    names = {"name": MODEL_NAME, "source": source["source"], "run_id": source["run_id"]}
    made = _registry(layout, "POST", "create", json=names | {"tags": listed})
    version = str(made["version"])
    folder = Path(shutil.copytree(store / of, store / version))
    write_manifest(replace(read_manifest(folder), version=version), folder)
    tag = {"name": MODEL_NAME, "version": version, "key": "manifest_sha256", "value": sha256_file(folder / MANIFEST_NAME)}
    _registry(layout, "POST", "set-tag", json=tag)
    return version


def _registry(layout: Layout, method: str, path: str, **arguments: Any) -> dict[str, Any]:
    url = f"{layout.url('mlflow')}/api/2.0/mlflow/model-versions/{path}"
    found: dict[str, Any] = httpx.request(method, url, timeout=30.0, trust_env=False, **arguments).raise_for_status().json()
    version: dict[str, Any] = found.get("model_version", {})
    return version
