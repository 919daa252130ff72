"""Rules for what happens by itself at some time: it must happen, and somebody must hear when it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from sre.judges.manifests.objects import NAMESPACES, Manifests, Object, Workload, name, subject
from sre.judges.manifests.pods import Rule, Told

_DRILLS = "drills"
_DAY_S = 86_400
# Five fields of which the first two are numbers: every day, or on one day of the week.
_CRON = re.compile(r"\d+ \d+ \* \* (?P<weekday>\*|[0-6])")
_DATABASE = ("full", "diff")


def _backups(manifests: Manifests) -> Told:
    for schedule in manifests.of("Schedule"):
        if schedule["spec"].get("paused"):
            yield subject(schedule), "is paused: no backup is made"
        if not schedule["spec"]["template"].get("defaultVolumesToFsBackup"):
            yield subject(schedule), "leaves the volumes out"
        missing = set(NAMESPACES) - set(schedule["spec"]["template"].get("includedNamespaces", ()))
        if missing:
            yield subject(schedule), f"leaves namespaces out: {', '.join(sorted(missing))}"
    for thing in manifests.of("ConfigMap"):
        if (text := thing.get("data", {}).get("schedule.json")) is not None:
            kinds = {slot.get("kind") for slot in json.loads(text).values()}
            if lacking := [kind for kind in _DATABASE if kind not in kinds]:
                yield subject(thing), f"makes no {' and no '.join(lacking)} backup of the database"


def _drills(manifests: Manifests) -> Iterator[Workload]:
    return (
        one for one in manifests.workloads if one.kind == "CronJob" and one.labels.get("app.kubernetes.io/component") == _DRILLS
    )


def _when(manifests: Manifests) -> Told:
    for drill in _drills(manifests):
        spec = drill.object["spec"]
        job = spec["jobTemplate"]["spec"]
        if spec.get("suspend"):
            yield drill.subject, "is suspended: nothing is proven"
        if spec.get("concurrencyPolicy") != "Forbid":
            yield drill.subject, "may run beside itself; forbid it"
        if not spec.get("startingDeadlineSeconds"):
            yield drill.subject, "is given up for good after 100 missed starts; set startingDeadlineSeconds"
        if spec.get("timeZone") != "Etc/UTC":
            yield drill.subject, f"runs by the clock of {spec.get('timeZone', 'its controller')}; take Etc/UTC"
        if job.get("backoffLimit") != 0 or drill.pod.get("restartPolicy") != "Never":
            yield drill.subject, "is repeated until it succeeds; set backoffLimit 0 and restartPolicy Never"
        if not all(spec.get(f"{kind}JobsHistoryLimit", 1) for kind in ("failed", "successful")):
            yield drill.subject, "leaves no Job behind, so nobody can read how it ended"


def _heard(manifests: Manifests) -> Told:
    waits: dict[str, str] = {}
    failing = ""
    for rule in _alerts(manifests):
        if rule["alert"] == "DrillMissed":
            waits |= dict.fromkeys(re.findall(r'absent\(kube_cronjob_created\{cronjob="([^"]+)"\}\)', rule["expr"]), rule["expr"])
        if rule["alert"] == "DrillFailed":
            failing = rule["expr"]
    for drill in _drills(manifests):
        known = _CRON.fullmatch(drill.object["spec"]["schedule"])
        period = (_DAY_S if known["weekday"] == "*" else 7 * _DAY_S) if known else 0
        if f"> 2 * {period}\n" not in waits.get(drill.name, ""):
            yield drill.subject, f"may stay away for longer than twice its period ({2 * period} s), and no alert says so"
        if not drill.name.startswith("drill-") or 'owner_name=~"drill-.+"' not in failing:
            yield drill.subject, "may fail, and no alert says so"


def _alerts(manifests: Manifests) -> Iterator[Object]:
    for thing in manifests.of("ConfigMap"):
        if name(thing).startswith("prometheus-rules"):
            for text in thing.get("data", {}).values():
                for group in yaml.safe_load(text)["groups"]:
                    yield from (rule for rule in group["rules"] if "alert" in rule)


RULES: dict[str, Rule] = {"backup-schedule": _backups, "drill-schedule": _when, "drill-alert": _heard}
