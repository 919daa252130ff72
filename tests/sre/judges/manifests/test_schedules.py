from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sre.judges.manifests.schedules import RULES
from tests.sre.judges.manifests.examples import System, broken, cases

_DRILL = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: drill-restore, namespace: ml-system}
spec:
  schedule: "0 5 * * *"
  timeZone: Etc/UTC
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        metadata: {labels: {app.kubernetes.io/component: drills}}
        spec: {restartPolicy: Never, containers: []}
"""
_ALERTS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: prometheus-rules-abcdef0123, namespace: monitoring}
data:
  drills.yml: |
    groups:
      - rules:
          - record: job:something
            expr: sum(something)
          - alert: DrillFailed
            expr: failed{owner_name=~"drill-.+"} > 0
          - alert: DrillMissed
            expr: |
              time() - last{cronjob="drill-restore"} > 2 * 86400
              or absent(kube_cronjob_created{cronjob="drill-restore"})
"""
_SCHEDULE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: postgres-abcdef0123, namespace: data}
data: {schedule.json: '{"daily": {"kind": "diff"}, "weekly": {"kind": "full"}}'}
"""


def system() -> System:
    made = System()
    for text in (_DRILL, _ALERTS, _SCHEDULE):
        made.add(text)
    return made


def _spec(made: System) -> dict[str, Any]:
    found: dict[str, Any] = made["CronJob", "drill-restore"]["spec"]
    return found


def _job(made: System) -> dict[str, Any]:
    found: dict[str, Any] = _spec(made)["jobTemplate"]["spec"]
    return found


def _say(made: System, old: str, new: str) -> None:
    data = made["ConfigMap", "monitoring/prometheus-rules-abcdef0123"]["data"]
    data["drills.yml"] = data["drills.yml"].replace(old, new)


BREAKS: dict[str, list[Callable[[System], object]]] = {
    "backup-schedule": [
        lambda s: s["Schedule", "velero/ml-daily"]["spec"].update(paused=True),
        lambda s: s["Schedule", "velero/ml-daily"]["spec"]["template"].pop("defaultVolumesToFsBackup"),
        lambda s: s["Schedule", "velero/ml-daily"]["spec"]["template"]["includedNamespaces"].remove("data"),
        lambda s: s["ConfigMap", "data/postgres-abcdef0123"]["data"].update({"schedule.json": "{}"}),
        lambda s: s["ConfigMap", "data/postgres-abcdef0123"]["data"].update({"schedule.json": '{"a": {"kind": "full"}}'}),
    ],
    "drill-schedule": [
        lambda s: _spec(s).update(suspend=True),
        lambda s: _spec(s).pop("concurrencyPolicy"),
        lambda s: _spec(s).pop("startingDeadlineSeconds"),
        lambda s: _spec(s).pop("timeZone"),
        lambda s: _spec(s).update(failedJobsHistoryLimit=0),
        lambda s: _job(s).pop("backoffLimit"),
        lambda s: _job(s)["template"]["spec"].update(restartPolicy="OnFailure"),
    ],
    "drill-alert": [
        lambda s: s.remove("ConfigMap", "monitoring/prometheus-rules-abcdef0123"),
        lambda s: _spec(s).update(schedule="0 5 * * 1"),
        lambda s: _spec(s).update(schedule="0 5 1 * *"),
        lambda s: _spec(s).update(schedule="@daily"),
        lambda s: _say(s, "86400", "864000"),
        lambda s: _say(s, "absent", "present"),
        lambda s: _say(s, "DrillFailed", "Other"),
        lambda s: _say(s, "drill-.+", "drill-pod-.+"),
        lambda s: s["CronJob", "drill-restore"]["metadata"].update(name="restore"),
    ],
}


def test_a_good_system_breaks_no_rule() -> None:
    assert broken(RULES, system()) == set()
    assert broken(RULES, System()) == set()


def test_every_rule_is_broken_here() -> None:
    assert BREAKS.keys() == RULES.keys()


@pytest.mark.parametrize(("rule", "number"), cases(BREAKS))
def test_what_breaks_a_rule_is_found(rule: str, number: int) -> None:
    made = system()
    BREAKS[rule][number](made)
    assert rule in broken(RULES, made)


def test_a_job_that_is_no_drill_may_rest() -> None:
    made = system()
    made["CronJob", "drill-restore"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"].clear()
    _spec(made).update(suspend=True)
    assert broken(RULES, made) == set()
