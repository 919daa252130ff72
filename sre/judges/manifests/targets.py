"""Whether what a kustomization names was there: kustomize passes over patches and images that match nothing, without a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sre.judges.manifests.objects import Finding, Manifests, Object, name, namespace

Kustomization = Mapping[str, Any]


def unmatched(kustomizations: Mapping[str, Kustomization], made: Manifests, gone: Manifests) -> Iterator[Finding]:
    """Patches and images that changed nothing.

    Args:
        kustomizations: by path, all that one overlay is made of.
        made: objects of the overlay.
        gone: objects as they are before anything is taken away: of the bases alone.
    """
    images = {str(container["image"]) for workload in made.workloads for container in workload.all_containers}
    for path, kustomization in kustomizations.items():
        for patch in kustomization.get("patches", ()):
            target = patch.get("target")
            there = gone if "$patch: delete" in patch.get("patch", "") else made
            suffix = kustomization.get("nameSuffix", "")
            if target is not None and not any(_is(thing, target, suffix) for thing in there.objects):
                yield Finding("patch-target", path, f"patches {dict(target)}, which is not there")
        for image in kustomization.get("images", ()):
            wanted = _image(image)
            if wanted not in images:
                yield Finding("image-target", path, f"names image {image['name']}, and nothing runs {wanted}")
        yield from _counts(path, kustomization.get("replicas", ()), made)


def _image(image: Object) -> str:
    called = image.get("newName", image["name"])
    return f"{called}@{image['digest']}" if "digest" in image else f"{called}:{image.get('newTag', '')}"


def _counts(path: str, counts: Iterable[Object], made: Manifests) -> Iterator[Finding]:
    for count in counts:
        if not any(workload.name.startswith(count["name"]) for workload in made.workloads):
            yield Finding("replica-target", path, f"counts replicas of {count['name']}, which is not there")


def _is(thing: Object, target: Object, suffix: str) -> bool:
    """Whether a target means an object; names and namespaces are whole regular expressions, as in kustomize.

    Args:
        thing: as it is at the end.
        target: of a patch.
        suffix: that the same kustomization puts behind names, after its patches.

    Raises:
        ValueError: it selects in a way that is not known here.
    """
    group, _, version = str(thing.get("apiVersion", "")).rpartition("/")
    has = {"group": group, "version": version, "kind": thing["kind"], "name": name(thing), "namespace": namespace(thing)}
    for field, wanted in target.items():
        if field == "labelSelector":
            if not all(_labelled(thing, part) for part in wanted.split(",")):
                return False
        elif field not in has:
            raise ValueError(f"target {dict(target)} selects by {field!r}; use one of {', '.join(has)}, labelSelector")
        elif not re.fullmatch(f"(?:{wanted}){re.escape(suffix) if field == 'name' else ''}", has[field]):
            return False
    return True


def _labelled(thing: Object, part: str) -> bool:
    key, _, value = part.partition("=")
    return bool(thing["metadata"].get("labels", {}).get(key.strip()) == value.strip())
