"""The overlays as the tests ask for them: rendered and parsed once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sre.judges.manifests.objects import Manifests, parsed
from tests.manifests.generated import K8S


@cache
def text(overlay: str) -> str:
    """The rendered file."""
    return (K8S / "rendered" / f"{overlay}.yaml").read_text(encoding="utf-8")


def fresh(overlay: str) -> list[dict[str, Any]]:
    """Its objects, parsed anew, so that a test may change them."""
    return [one for one in yaml.load_all(text(overlay), Loader=yaml.CSafeLoader) if one]


@cache
def manifests(overlay: str) -> Manifests:
    """Its objects, shared."""
    return parsed(fresh(overlay))


def kustomizations(folder: Path) -> dict[str, dict[str, Any]]:
    """All that an overlay is made of, by path below k8s/."""
    file = folder / "kustomization.yaml"
    own: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = {str(file.relative_to(K8S)): own}
    for name in (*own.get("resources", ()), *own.get("components", ())):
        if (folder / name).is_dir():
            found |= kustomizations((folder / name).resolve())
    return found
