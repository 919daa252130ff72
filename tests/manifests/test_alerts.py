"""Alerts that only a cluster has, under promtool: each fires when it should and not before, also when nobody says anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sre.config import PROJECT
from sre.dr import backup_plan
from sre.targets.local.programs import find
from tests.manifests.generated import K8S

FILES = (
    K8S / "base/monitoring/rules/cluster.yml", K8S / "components/drills/drills.yml",
    K8S / "components/fault-drills/fault-drills.yml",
)  # fmt: skip
# A sample every four minutes, for promtool forgets one after five. Its time begins with 1970.
RESTORE, RECOVERY = "drill-database-restore", "drill-pod-recovery"
JOB = 'job="kube-state-metrics"'
FIRING = 'count by (alertname, cronjob, owner_name) (ALERTS{alertstate="firing"})'
Series = dict[str, str]


def newest(*, full: str | None, diff: str | None, repo: int = 1) -> Series:
    kinds = {"full": full, "diff": diff}
    return {
        f'pgbackrest_backup_newest_timestamp_seconds{{job="backups",member="{member}",repo="{repo}",type="{kind}"}}': values
        for member in (0, 1)
        for kind, values in kinds.items()
        if values is not None
    }


def drill(name: str, *, last: str | None, created: str = "0", suspended: str = "0", namespace: str = "data") -> Series:
    labels = f'{{{JOB},namespace="{namespace}",cronjob="{name}"}}'
    found = {"kube_cronjob_created": created, "kube_cronjob_spec_suspend": suspended}
    found |= {} if last is None else {"kube_cronjob_status_last_successful_time": last}
    return {f"{metric}{labels}": f"{value}x6000" for metric, value in found.items()}


def ran(job: str, name: str, *, start: int, failed: bool, namespace: str = "data") -> Series:
    labels = f'{JOB},namespace="{namespace}",job_name="{job}"'
    made = {
        f"kube_job_status_start_time{{{labels}}}": start,
        f'kube_job_owner{{{labels},owner_kind="CronJob",owner_name="{name}",owner_is_controller="true"}}': 1,
    }
    if failed:
        made[f'kube_job_failed{{{labels},condition="true",reason="DeadlineExceeded"}}'] = 1
        made[f'kube_job_failed{{{labels},condition="false",reason="DeadlineExceeded"}}'] = 0
    return {name: f"{value}x6000" for name, value in made.items()}


FINE = newest(full="0x6000", diff="0+240x6000")
QUIET = drill(RESTORE, last="0+240") | drill(RECOVERY, last="0+240", namespace="monitoring")


@pytest.fixture
def firing(programs: Path, tmp_path: Path) -> Callable[[Series, str], set[tuple[str, str]]]:
    """Alerts that fire at a moment, each with the drill that it is about."""
    found = find("promtool", programs)
    for file in FILES:
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")

    def tell(series: Series, at: str) -> set[tuple[str, str]]:
        # What fires is a series, too, and promtool shows what it got in place of what was expected.
        query = {
            "expr": FIRING,
            "eval_time": at,
            "exp_samples": [],
        }
        test = {
            "rule_files": [file.name for file in FILES], "evaluation_interval": "4m",
            "tests": [{
                "interval": "4m", "promql_expr_test": [query],
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
            }],
        }  # fmt: skip
        (tmp_path / "test.yml").write_text(json.dumps(test))
        done = subprocess.run(
            [str(found.path), "test", "rules", "test.yml"], cwd=tmp_path, env={**os.environ, **found.environment},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert not done.returncode or "got:" in said, said
        firing = [dict(re.findall(r'(\w+)="([^"]*)"', labels)) for labels in re.findall(r"{([^{}]*)}", said.partition("got:")[2])]
        return {(one["alertname"], one.get("cronjob") or one.get("owner_name") or "") for one in firing}

    return tell


Firing = Callable[[Series, str], set[tuple[str, str]]]
OLD = ("BackupTooOld", "")


@pytest.mark.parametrize(
    ("backups", "at", "expected"),
    [
        pytest.param(FINE, "100h", set(), id="all is well"),
        pytest.param(newest(full="0x6000", diff="0x6000"), "26h", set(), id="26 h"),
        pytest.param(newest(full="0x6000", diff="0x6000"), "26h20m", {OLD}, id="more than 26 h"),
        pytest.param(FINE, "194h", set(), id="a full one of 8 days and 2 h"),
        pytest.param(FINE, "194h20m", {OLD}, id="an older full one"),
        pytest.param(FINE | newest(full="0x6000", diff="0x6000", repo=2), "26h20m", {OLD}, id="one repository of two"),
        pytest.param({}, "26h20m", {OLD}, id="nobody says"),
        pytest.param(newest(full=None, diff="0+240x6000"), "200h", {OLD}, id="nobody says of full ones"),
    ],
)
def test_backups(firing: Firing, backups: Series, at: str, expected: set[tuple[str, str]]) -> None:
    assert firing(backups | QUIET, at) == expected


MISSED, FAILED = ("DrillMissed", RESTORE), ("DrillFailed", RESTORE)


@pytest.mark.parametrize(
    ("series", "at", "expected"),
    [
        pytest.param({}, "48h", set(), id="all is well"),
        pytest.param(drill(RESTORE, last="0"), "48h", set(), id="two days"),
        pytest.param(drill(RESTORE, last="0"), "48h20m", {MISSED}, id="more than two days"),
        pytest.param(drill(RESTORE, last=None), "48h", set(), id="new"),
        pytest.param(drill(RESTORE, last=None), "48h20m", {MISSED}, id="never, for more than two days"),
        pytest.param(drill(RESTORE, last="0+240", suspended="1"), "1h", {MISSED}, id="suspended"),
        pytest.param(drill(RECOVERY, last="0", namespace="monitoring"), "100h", set(), id="weekly, after four days"),
        pytest.param(
            drill(RECOVERY, last="0", namespace="monitoring"), "337h", {("DrillMissed", RECOVERY)}, id="weekly, after two weeks"
        ),
        pytest.param(ran("a", RESTORE, start=3600, failed=True) | drill(RESTORE, last="60"), "2h", {FAILED}, id="failed"),
        pytest.param(ran("a", RESTORE, start=3600, failed=True) | drill(RESTORE, last=None), "2h", {FAILED}, id="first failed"),
        pytest.param(ran("a", RESTORE, start=3600, failed=True) | drill(RESTORE, last="7000"), "2h", set(), id="succeeded since"),
        pytest.param(ran("a", RESTORE, start=3600, failed=False) | drill(RESTORE, last="60"), "2h", set(), id="runs"),
        pytest.param(ran("a", "ml-training", start=3600, failed=True), "2h", set(), id="another CronJob's"),
        pytest.param(
            ran("a", RESTORE, start=60, failed=True) | ran("b", RESTORE, start=3600, failed=True) | drill(RESTORE, last="1800"),
            "2h", {FAILED}, id="the newer of two failures",
        ),
    ],
)  # fmt: skip
def test_drills(firing: Firing, series: Series, at: str, expected: set[tuple[str, str]]) -> None:
    # A full backup of every moment, so that only drills are told of.
    fine = newest(full="0+240x6000", diff="0+240x6000")
    told = {name.partition("{")[2] for name in series}
    quiet = {name: values for name, values in QUIET.items() if name.partition("{")[2] not in told}
    assert firing(fine | quiet | series, at) == expected


def test_numbers_that_do_not_come_are_missed_drills(firing: Firing) -> None:
    fine = newest(full="0+240x6000", diff="0+240x6000")
    assert firing(fine, "1h") == {MISSED, ("DrillMissed", RECOVERY)}


def test_the_ages_are_the_plans() -> None:
    plan = backup_plan.load()
    newest_h = plan.places.store.max_age / 3600
    (rule,) = (one for group in yaml.safe_load(FILES[0].read_text(encoding="utf-8"))["groups"] for one in group["rules"])
    assert f"> {newest_h:.0f} * 3600" in rule["expr"]
    assert f"> {7 * 24 + newest_h:.0f} * 3600" in rule["expr"]


def test_every_alert_leads_to_a_runbook() -> None:
    for file in FILES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                page: Any = rule["annotations"]["runbook_url"]
                assert (PROJECT / page).is_file(), page
