"""What the API says of an object's fields: Kubernetes' own schemas, and those of custom resources where they are at hand."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Any

import jsonschema_rs
import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from sre.judges.manifests.objects import Finding, Manifests, Object, subject
from tests import cluster

VERSIONS = ("1.34", "1.35", "1.36")
_FILES = ("gateway-api-crds", "prometheus-operator-crds")
_VELERO_WITHIN_S = 30


class _Loader(yaml.CSafeLoader):
    """Reads `=` as the word that it is meant to be in a definition."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def findings(manifests: Manifests, versions: tuple[str, ...] = VERSIONS[-1:]) -> list[Finding]:
    """Fields that no schema knows, and values of another kind; objects of other groups than Kubernetes' own are left out."""
    found = []
    for version in versions:
        for thing in manifests.objects:
            if not is_custom(thing):
                try:
                    kubernetes_validate.validate(dict(thing), version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    found.append(
                        Finding("schema", subject(thing), f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
                    )
    return found


def is_custom(thing: Object) -> bool:
    """Whether an object is of a group that a cluster learns from a definition."""
    group = str(thing["apiVersion"]).rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group.startswith("gateway.")


def custom_findings(thing: Object) -> list[str] | None:
    """What the definition of a custom resource finds wrong; None where the definition is not at hand."""
    validator = _validators().get((thing["apiVersion"], thing["kind"]))
    if validator is None:
        return None
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(dict(thing))]


@cache
def _validators() -> dict[tuple[str, str], Any]:
    texts = [text for name in _FILES if (text := cluster.definitions(name))]
    if velero := cluster.find_program("velero"):
        command = [str(velero), "install", "--crds-only", "--dry-run", "-o", "yaml"]
        done = subprocess.run(command, capture_output=True, timeout=_VELERO_WITHIN_S, check=True)
        texts.append(done.stdout)
    found = {}
    for text in texts:
        for document in filter(None, yaml.load_all(text, Loader=_Loader)):
            for definition in document.get("items", [document]):
                spec = definition["spec"]
                for version in spec["versions"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[key] = jsonschema_rs.Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"], root=True))
    return found


def _strict(schema: Any, *, root: bool = False) -> Any:
    """A definition's schema as a JSON schema that knows no other field than those it names."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key not in ("description", "format", "default", "nullable")}
    if "properties" in schema and isinstance(schema["properties"], dict):
        made["properties"] = {key: _strict(value) for key, value in schema["properties"].items()}
        if root:
            made["properties"]["metadata"] = {"type": "object"}
        if "type" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made
