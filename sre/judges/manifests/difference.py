"""How two renderings differ, as paths: `Deployment ml-system/ml-api: spec.replicas`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sre.judges.manifests.objects import Manifests, Object, subject

# What a generator adds to the name of a ConfigMap, so that a changed value changes the name.
_HASH = re.compile(r"-[a-z0-9]{10}$")


def paths(one: Manifests, other: Manifests) -> tuple[str, ...]:
    """Every place where they differ, sorted; an object that only one of them has is one place."""
    here, there = _by_name(one), _by_name(other)
    generated = {key.rpartition("/")[2] for found in (here, there) for key in found if key.startswith("ConfigMap ")}
    lonely = [f"{key}: only in one" for key in here.keys() ^ there.keys()]
    both = [f"{key}: {path}" for key in here.keys() & there.keys() for path in _walk(here[key], there[key], "", generated)]
    return tuple(sorted({*lonely, *both}))


def _by_name(manifests: Manifests) -> dict[str, Object]:
    found = {subject(thing): thing for thing in manifests.objects}
    return {_HASH.sub("", key) if thing["kind"] == "ConfigMap" else key: thing for key, thing in found.items()}


def _walk(one: Any, other: Any, path: str, generated: set[str]) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _walk(one.get(key), other.get(key), f"{path}.{key}".lstrip("."), generated)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _walk(*pair, f"{path}[{index}]", generated)
    elif one != other and not _same_generated(one, other, generated):
        yield path


def _same_generated(one: Any, other: Any, generated: set[str]) -> bool:
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    stem = _HASH.sub("", one)
    return stem in generated and stem == _HASH.sub("", other)
