"""Every file below k8s/ that a program writes, and what it should hold: `python -m tests.manifests` writes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sre.config import PROJECT
from sre.dr import backup_plan, lifecycle
from system import render

K8S = PROJECT / "k8s"
OVERLAYS = ("dev", "staging", "prod")
_MONITORING = K8S / "base" / "monitoring"
_RULES = ("alerts.yml", *render.OBJECTIVES)
_RENDER_WITHIN_S = 60


def kustomize(kubectl: Path, folder: Path) -> str:
    """The objects of a kustomization."""
    done = subprocess.run(
        [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, timeout=_RENDER_WITHIN_S, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def sources() -> Iterator[tuple[Path, str]]:
    """Files that kustomizations read."""
    values = render.read_values(_MONITORING / "values.json")
    for name in (*_RULES, "alertmanager.yml"):
        yield _MONITORING / "rules" / name, render.render(name, values)
    yield K8S / "components" / "prometheus-operator" / "rules.yaml", _prometheus_rule(values)
    yield K8S / "base" / "objects" / "rules.json", _bucket_rules()
    yield K8S / "base" / "database" / "schedule.json", _schedule()


def rendered(kubectl: Path) -> Iterator[tuple[Path, str]]:
    """What each overlay makes of them."""
    for overlay in OVERLAYS:
        yield K8S / "rendered" / f"{overlay}.yaml", kustomize(kubectl, K8S / "overlays" / overlay)


def write(kubectl: Path) -> None:
    """Write all of them; what reads others comes last."""
    for files in (sources(), rendered(kubectl)):
        for path, text in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _prometheus_rule(values: dict[str, Any]) -> str:
    texts = [
        *(render.render(name, values) for name in _RULES),
        (_MONITORING / "rules" / "cluster.yml").read_text(encoding="utf-8"),
    ]
    groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "ml-system", "namespace": "monitoring"},
        "spec": {"groups": groups},
    }
    return yaml.safe_dump(rule, sort_keys=False, width=130)


def _bucket_rules() -> str:
    """As `sre backup lifecycle --s3` prints them."""
    # "cold" moves objects to a remote tier, and MinIO refuses a rule whose tier nobody has set up.
    found = {
        bucket: {"Rules": [rule for rule in rules.get("Rules", []) if rule["ID"] != "cold"]}
        for bucket, rules in lifecycle.s3(backup_plan.load().buckets).items()
    }
    buckets = {bucket: rules if rules["Rules"] else {} for bucket, rules in found.items()}
    return json.dumps({"schema": "sre.lifecycle-s3/1", "buckets": buckets}, indent=2) + "\n"


def _schedule() -> str:
    """When the database is backed up, and how."""
    backups = backup_plan.load().backups
    slots = {
        "daily": {"at": f"{backups.daily.at:%H:%M}", "kind": backups.daily.kind},
        "weekly": {"at": f"{backups.weekly.at:%H:%M}", "day": backups.weekly.day, "kind": backups.weekly.kind},
    }
    return json.dumps(slots, indent=2) + "\n"
