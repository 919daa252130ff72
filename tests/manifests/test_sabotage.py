"""Manifests of staging, damaged in one place: what finds it? Each is one that somebody could make and kustomize renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sre.judges.manifests import ladder, ways
from sre.judges.manifests.objects import parsed
from tests.manifests import overlays, schemas

ENFORCE = "pod-security.kubernetes.io/enforce"
API, POSTGRES = ("Deployment", "ml-api"), ("StatefulSet", "postgres")
RESTORE, RECOVERY = ("CronJob", "drill-database-restore"), ("CronJob", "drill-pod-recovery")


class Objects(list[dict[str, Any]]):
    """All of them; by kind and name the first one."""

    def called(self, kind: str, name: str) -> dict[str, Any]:
        return next(one for one in self if (one["kind"], one["metadata"]["name"]) == (kind, name))

    def spec(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.called(kind, name)["spec"]
        return found

    def delete(self, kind: str, name: str) -> None:
        self.remove(self.called(kind, name))


def pod(objects: Objects, key: tuple[str, str] = API) -> dict[str, Any]:
    spec: dict[str, Any] = objects.spec(*key)["template"]["spec"]
    return spec


def container(objects: Objects, key: tuple[str, str] = API) -> dict[str, Any]:
    found: dict[str, Any] = pod(objects, key)["containers"][0]
    return found


def job(objects: Objects, key: tuple[str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = objects.spec(*key)["jobTemplate"]["spec"]
    return spec


def drill(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = job(objects, RESTORE)["template"]["spec"]
    return spec


def config(objects: Objects, stem: str) -> dict[str, Any]:
    found = (one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"].rpartition("-")[0] == stem)
    data: dict[str, Any] = next(found)["data"]
    return data


def role(objects: Objects, namespace: str) -> list[dict[str, Any]]:
    found = (one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Role", "drills"))
    rules: list[dict[str, Any]] = next(one for one in found if one["metadata"]["namespace"] == namespace)["rules"]
    return rules


def silence(objects: Objects) -> None:
    rules = config(objects, "prometheus-rules")
    rules["drills.yml"] = rules["drills.yml"].replace("DrillFailed", "SomethingFailed")


def allow(objects: Objects, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = objects.spec("NetworkPolicy", name)
    return spec


SABOTAGES: dict[str, tuple[str, Callable[[Objects], object]]] = {
    "readiness probe removed": ("no-readiness-probe", lambda o: container(o).pop("readinessProbe")),
    "liveness probe removed": ("pod-recovery", lambda o: container(o).pop("livenessProbe")),
    "start-up given a minute": ("pod-recovery", lambda o: container(o)["startupProbe"].update(failureThreshold=60)),
    "probe asks a port that is not there": ("probe-port", lambda o: container(o)["readinessProbe"]["httpGet"].update(port="web")),
    "disruption budget deleted": ("no-pod-disruption-budget", lambda o: o.delete("PodDisruptionBudget", "ml-api")),
    "disruption budget of the database gone": ("no-pod-disruption-budget", lambda o: o.delete("PodDisruptionBudget", "postgres")),
    "disruption budget lets nobody go": (
        "pdb-max-unavailable", lambda o: o.spec("PodDisruptionBudget", "ml-api").update(maxUnavailable=0),
    ),
    "tolerations dropped": ("no-node-loss-toleration", lambda o: pod(o).pop("tolerations")),
    "toleration of the database dropped": ("no-node-loss-toleration", lambda o: pod(o, POSTGRES)["tolerations"].pop()),
    "toleration of five minutes": ("node-recovery", lambda o: pod(o)["tolerations"][1].update(tolerationSeconds=300)),
    "volume of the node's disk": (
        "sensitive-host-mounts", lambda o: pod(o)["volumes"].append({"name": "models", "hostPath": {"path": "/srv"}}),
    ),
    "image without a version": ("latest-tag", lambda o: container(o).update(image="registry.example.com/ml-sre/api:latest")),
    "policy opened to everybody": ("open-networkpolicy", lambda o: allow(o, "minio")["ingress"][0].pop("from")),
    "policy opened to one more": (
        "flows", lambda o: allow(o, "postgres")["ingress"][0]["from"].append(
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ml-system"}}}),
    ),
    "default denial deleted": ("non-isolated-pod", lambda o: o.delete("NetworkPolicy", "default-deny")),
    "flow forgotten": ("flows", lambda o: allow(o, "mlflow")["egress"].pop()),
    "service selects nothing": ("dangling-service", lambda o: o.spec("Service", "ml-api")["selector"].update(track="stabel")),
    "service sends to a port that is not there": (
        "invalid-target-ports", lambda o: o.spec("Service", "mlflow")["ports"][0].update(targetPort=8080),
    ),
    "runs as root": ("run-as-non-root", lambda o: pod(o, POSTGRES)["securityContext"].update(runAsUser=0, runAsNonRoot=False)),
    "writable root": ("no-read-only-root-fs", lambda o: container(o)["securityContext"].pop("readOnlyRootFilesystem")),
    "seccomp off": ("no-seccomp-profile", lambda o: pod(o)["securityContext"].pop("seccompProfile")),
    "Pod Security lowered": (
        "pod-security", lambda o: o.called("Namespace", "data")["metadata"]["labels"].update({ENFORCE: "privileged"}),
    ),
    "update takes one away first": (
        "no-rolling-update-strategy", lambda o: o.spec(*API)["strategy"]["rollingUpdate"].update(maxUnavailable=1, maxSurge=0),
    ),
    "autoscaler goes down to one": (
        "hpa-minimum-three-replicas", lambda o: o.spec("HorizontalPodAutoscaler", "ml-api").update(minReplicas=1),
    ),
    "autoscaler in leaps": ("autoscaler-steps", lambda o: o.spec("HorizontalPodAutoscaler", "ml-api").pop("behavior")),
    "replicas set beside an autoscaler": ("dangling-horizontalpodautoscaler", lambda o: o.spec(*API).update(replicas=3)),
    "all replicas on one node": ("no-anti-affinity", lambda o: pod(o).pop("topologySpreadConstraints")),
    "lost nodes count": ("spread-over-live-nodes", lambda o: pod(o)["topologySpreadConstraints"][0].pop("nodeTaintsPolicy")),
    "no pause before the end": ("drain", lambda o: container(o).pop("lifecycle")),
    "limits forgotten": ("unset-memory-requirements", lambda o: container(o)["resources"].pop("limits")),
    "password in plain text": (
        "env-var-secret", lambda o: container(o)["env"].append({"name": "DB_PASSWORD", "value": "letmein"}),
    ),
    "everything allowed": ("wildcard-in-rules", lambda o: o.called("Role", "postgres")["rules"][0].update(verbs=["*"])),
    "account of its own forgotten": ("default-service-account", lambda o: pod(o).pop("serviceAccountName")),
    "route to nowhere": (
        "dangling-route", lambda o: o.spec("HTTPRoute", "ml-api")["rules"][0]["backendRefs"][0].update(name="ml-apis"),
    ),
    "canary gets traffic": (
        "canary-at-rest", lambda o: o.spec("HTTPRoute", "ml-api")["rules"][0]["backendRefs"][1].update(weight=10),
    ),
    "schedule paused": ("backup-schedule", lambda o: o.spec("Schedule", "ml-daily").update(paused=True)),
    "volumes left out of the backup": (
        "backup-schedule", lambda o: o.spec("Schedule", "ml-weekly")["template"].pop("defaultVolumesToFsBackup"),
    ),
    "backups kept for a day": ("backup-retention", lambda o: o.spec("Schedule", "ml-daily")["template"].update(ttl="24h")),
    "no full backup of the database": (
        "backup-schedule", lambda o: config(o, "postgres").update({"schedule.json": '{"a": {"kind": "diff"}}'}),
    ),
    "drill suspended": ("drill-schedule", lambda o: o.spec(*RESTORE).update(suspend=True)),
    "drill runs beside itself": ("drill-schedule", lambda o: o.spec(*RESTORE).update(concurrencyPolicy="Allow")),
    "drill repeated until it succeeds": ("drill-schedule", lambda o: job(o, RECOVERY).update(backoffLimit=3)),
    "drill without a trace": ("drill-schedule", lambda o: o.spec(*RESTORE).update(failedJobsHistoryLimit=0)),
    "drill without a deadline": ("job-ttl-seconds-after-finished", lambda o: job(o, RESTORE).pop("activeDeadlineSeconds")),
    "drill every two weeks": ("drill-alert", lambda o: o.spec(*RECOVERY).update(schedule="0 10 1,15 * *")),
    "daily drill made weekly": ("drill-alert", lambda o: o.spec(*RESTORE).update(schedule="0 5 * * 1")),
    "missed drills are not heard of": ("drill-alert", lambda o: config(o, "prometheus-rules").pop("fault-drills.yml")),
    "failed drills are not heard of": ("drill-alert", silence),
    "drills may do everything": ("wildcard-in-rules", lambda o: role(o, "ml-system")[0].update(verbs=["*"])),
    "drills may read every Secret": ("wildcard-in-rules", lambda o: role(o, "monitoring")[2].pop("resourceNames")),
    "drills may change a Secret": ("wildcard-in-rules", lambda o: role(o, "monitoring")[2]["verbs"].append("patch")),
    "drills may enter the database": ("wildcard-in-rules", lambda o: role(o, "data")[0]["resources"].append("pods/exec")),
    "drills may start pods": ("wildcard-in-rules", lambda o: role(o, "ml-system")[0]["verbs"].append("create")),
    "drills may raise their rights": ("wildcard-in-rules", lambda o: role(o, "ml-system")[2]["verbs"].append("bind")),
    "replicas carry tokens that drills can take": (
        "wildcard-in-rules", lambda o: pod(o).update(automountServiceAccountToken=True),
    ),
    "bucket keys of another role": (
        "secret-of-another-role", lambda o: pod(o, ("Deployment", "mlflow"))["volumes"][0]["secret"].update(secretName="restore"),
    ),
    "keys of the whole store": (
        "secret-of-another-role", lambda o: container(o, POSTGRES)["env"].append(
            {"name": "PGBACKREST_REPO1_S3_KEY_2", "valueFrom": {"secretKeyRef": {"name": "minio", "key": "secret-key"}}}),
    ),
    "restore drill may write backups": (
        "secret-of-another-role", lambda o: drill(o)["containers"][0]["env"][3]["valueFrom"]["secretKeyRef"].update(
            name="pgbackrest"),
    ),
    "every password of the database": (
        "secret-of-another-role", lambda o: pod(o, ("Deployment", "mlflow"))["volumes"].append(
            {"name": "passwords", "secret": {"secretName": "postgres-passwords"}}),
    ),
    "restore drill may ask the database": (
        "flows", lambda o: allow(o, "drill-database-restore")["egress"].append(
            {"to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "postgres"}}}], "ports": [{"port": 5432}]}),
    ),
    "misspelt field": ("schema", lambda o: container(o).update(readinesProbe=container(o).pop("readinessProbe"))),
    "number written as a word": ("schema", lambda o: o.spec("PodDisruptionBudget", "ml-api").update(minAvailable=[2])),
}  # fmt: skip


def test_staging_is_whole() -> None:
    made = parsed(overlays.fresh("staging"))
    assert ladder.climb(made, ways.between([one.path for one in made.workloads])) == ()
    assert schemas.findings(made) == []


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_each_damage_is_found(sabotage: str) -> None:
    rule, damage = SABOTAGES[sabotage]
    objects = Objects(overlays.fresh("staging"))
    damage(objects)
    made = parsed(objects)
    changed = parsed(one for one in objects if one not in overlays.manifests("staging").objects)
    found = [*ladder.climb(made, ways.between([one.path for one in made.workloads])), *schemas.findings(changed)]
    assert rule in {finding.rule for finding in found}
