from __future__ import annotations

from typing import Any

import pytest

from sre.judges.manifests.targets import unmatched
from tests.sre.judges.manifests.examples import System


def wrong(kustomization: dict[str, Any], *, gone: System | None = None) -> list[str]:
    made = System()
    return [finding.rule for finding in unmatched({"k": kustomization}, made.manifests, (gone or made).manifests)]


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "Deployment", "name": "web"},
        {"kind": "Deployment", "name": "w.*", "namespace": "ml-system"},
        {"group": "apps", "version": "v1", "kind": "Deployment"},
        {"kind": "Service", "version": "v1", "group": ""},
        {"kind": "Namespace", "labelSelector": "pod-security.kubernetes.io/enforce=restricted"},
    ],
)
def test_a_patch_that_finds_its_target(target: dict[str, str]) -> None:
    assert wrong({"patches": [{"target": target, "patch": "[]"}]}) == []


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "Deployment", "name": "we"},
        {"kind": "StatefulSet", "name": "web"},
        {"kind": "Deployment", "name": "web", "namespace": "data"},
        {"kind": "Namespace", "labelSelector": "pod-security.kubernetes.io/enforce=restricted,other=one"},
    ],
)
def test_a_patch_that_finds_nothing(target: dict[str, str]) -> None:
    assert wrong({"patches": [{"target": target, "patch": "[]"}]}) == ["patch-target"]


def test_a_patch_with_a_name_of_its_own_is_kustomizes_to_check() -> None:
    assert wrong({"patches": [{"path": "patch.yaml"}]}) == []


def test_a_suffix_comes_after_the_patches() -> None:
    patch = {"target": {"kind": "Deployment", "name": "w"}, "patch": "[]"}
    assert wrong({"nameSuffix": "eb", "patches": [patch]}) == []


def test_what_a_patch_takes_away_must_have_been_there() -> None:
    patch = {"target": {"kind": "Gateway", "name": "old"}, "patch": "$patch: delete\nkind: Gateway"}
    before = System()
    assert wrong({"patches": [patch]}) == ["patch-target"]
    before["Gateway", "edge"]["metadata"]["name"] = "old"
    assert wrong({"patches": [patch]}, gone=before) == []


def test_a_selector_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="annotationSelector"):
        wrong({"patches": [{"target": {"annotationSelector": "a=b"}, "patch": "[]"}]})


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"name": "web", "newName": "registry.example.com/web", "newTag": "1.0"}, []),
        ({"name": "web", "newName": "registry.example.com/web", "digest": "sha256:" + "0123456789abcdef" * 4}, []),
        ({"name": "registry.example.com/web", "newTag": "1.0"}, []),
        ({"name": "web", "newName": "registry.example.com/wbe", "newTag": "1.0"}, ["image-target"]),
        ({"name": "web", "newTag": "1.0"}, ["image-target"]),
    ],
)
def test_images(image: dict[str, str], expected: list[str]) -> None:
    assert wrong({"images": [image]}) == expected


def test_counts_of_replicas() -> None:
    assert wrong({"replicas": [{"name": "web", "count": 3}]}) == []
    assert wrong({"replicas": [{"name": "wbe", "count": 3}]}) == ["replica-target"]
