from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from huey import crontab as reads_cron  # type: ignore[import-untyped]
from kubernetes import client

from sre.dr import backup_plan
from sre.dr.schedule import Job, crontab, jobs, kubernetes, systemd

PLAN = backup_plan.load()
SRE = Path("/opt/ml sre/bin/sre")
ENVIRONMENT = {"SRE_HOME": "/srv/ml 100%"}
NAMES = ("backup-daily", "backup-weekly", "backup-prune", "restore-drill", "restore-quarterly")
# What the plan means, said a second time.
WANTED: dict[str, Callable[[datetime], bool]] = {
    "backup-daily": lambda t: (t.hour, t.minute) == (2, 0),
    "backup-weekly": lambda t: (t.hour, t.minute) == (1, 0) and t.isoweekday() == 7,
    "backup-prune": lambda t: (t.hour, t.minute) == (3, 30),
    "restore-drill": lambda t: (t.hour, t.minute) == (5, 0) and t.isoweekday() == 6,
    "restore-quarterly": lambda t: (t.hour, t.minute, t.day) == (5, 0, 1) and t.month in {1, 4, 7, 10},
}


def moments() -> list[datetime]:
    """Every half hour of two years."""
    begin = datetime(2027, 1, 1)  # noqa: DTZ001 - a crontab knows no zone
    return [begin + timedelta(minutes=30 * number) for number in range(2 * 365 * 48)]


def test_the_jobs_are_those_of_the_plan() -> None:
    assert tuple(job.name for job in jobs(PLAN)) == NAMES
    assert jobs(PLAN)[0].arguments == ("backup", "create", "--kind", "diff", "--reason", "daily")
    assert jobs(PLAN)[1].arguments == ("backup", "create", "--kind", "full", "--reason", "weekly")
    assert jobs(PLAN)[4].arguments == ("drill", "restore", "--from", "off-site")


def test_a_change_of_the_plan_changes_every_rendering() -> None:
    text = backup_plan.PLAN.read_text(encoding="utf-8").replace('"02:00"', '"23:45"').replace("day: saturday", "day: monday")
    changed = {job.name: job for job in jobs(backup_plan.parse(text))}
    assert changed["backup-daily"].cron() == "45 23 * * *"
    assert changed["backup-daily"].calendar() == "*-*-* 23:45:00 UTC"
    assert changed["restore-drill"].cron() == "0 5 * * 1"
    assert changed["restore-drill"].calendar() == "Mon *-*-* 05:00:00 UTC"


@pytest.mark.parametrize("job", jobs(PLAN), ids=lambda job: job.name)
def test_a_parser_of_crontabs_reads_the_times_that_the_plan_means(job: Job) -> None:
    minute, hour, day, month, weekday = job.cron().split()
    due = reads_cron(minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, strict=True)
    wanted = WANTED[job.name]
    assert [moment for moment in moments() if due(moment)] == [moment for moment in moments() if wanted(moment)]


@pytest.mark.parametrize("job", jobs(PLAN), ids=lambda job: job.name)
def test_no_line_has_a_weekday_and_a_day_of_the_month(job: Job) -> None:
    _, _, day, _, weekday = job.cron().split()
    assert "*" in {day, weekday}  # cron would run on either


def test_the_crontab() -> None:
    lines = crontab(PLAN, SRE, ENVIRONMENT).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "CRON_TZ=UTC",
        'SRE_HOME="/srv/ml 100%"',
        "0 2 * * * '/opt/ml sre/bin/sre' backup create --kind diff --reason daily",
        "0 1 * * 0 '/opt/ml sre/bin/sre' backup create --kind full --reason weekly",
        "30 3 * * * '/opt/ml sre/bin/sre' backup prune",
        "0 5 * * 6 '/opt/ml sre/bin/sre' drill restore --from store",
        "0 5 1 1,4,7,10 * '/opt/ml sre/bin/sre' drill restore --from off-site",
    ]
    assert any("All times are UTC" in line for line in lines)
    assert r"/opt/100\%/sre backup prune" in crontab(PLAN, Path("/opt/100%/sre"), {})  # a bare % ends the command


def analyze(*arguments: str) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("job", jobs(PLAN), ids=lambda job: job.name)
def test_systemd_reads_the_times_that_the_plan_means(job: Job) -> None:
    told = analyze("calendar", "--iterations=12", job.calendar())
    elapses = [datetime.fromisoformat(found) for found in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", told)]
    assert len(elapses) == 12
    assert all(WANTED[job.name](elapse) for elapse in elapses)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = tmp_path / "sre with space"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = systemd(PLAN, program, ENVIRONMENT)
    assert set(units) == {f"sre-{name}.{kind}" for name in NAMES for kind in ("service", "timer")}
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    told = analyze("verify", *(str(tmp_path / name) for name in units))
    assert not [line for line in told.splitlines() if str(tmp_path) in line or "sre-" in line]


def test_systemd_would_refuse_a_wrong_unit(tmp_path: Path) -> None:
    (tmp_path / "sre-x.timer").write_text("[Timer]\nOnCalendar=someday\n")
    (tmp_path / "sre-x.service").write_text("[Service]\nType=oneshot\nExecStart=/nowhere/sre\n")
    with pytest.raises(AssertionError):
        analyze("verify", str(tmp_path / "sre-x.timer"))


def test_the_units_catch_up_and_keep_the_environment() -> None:
    units = systemd(PLAN, SRE, ENVIRONMENT)
    assert "Persistent=true" in units["sre-backup-daily.timer"]
    assert "OnCalendar=Sun *-*-* 01:00:00 UTC" in units["sre-backup-weekly.timer"]
    assert "OnCalendar=*-01,04,07,10-01 05:00:00 UTC" in units["sre-restore-quarterly.timer"]
    assert 'Environment="SRE_HOME=/srv/ml 100%%"' in units["sre-backup-daily.service"]
    assert 'ExecStart="/opt/ml sre/bin/sre" backup prune' in units["sre-backup-prune.service"]


def known(document: Any, kind: str, where: str = "") -> list[str]:
    """Every field of a document that its type does not have."""
    if kind.startswith("List["):
        return [wrong for item in document for wrong in known(item, kind[5:-1], where)]
    model = getattr(client, kind, None)
    if model is None:
        return []
    fields = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    wrong = []
    for name, value in document.items():
        wrong += known(value, fields[name], f"{where}.{name}") if name in fields else [f"{where}.{name}"]
    return wrong


def test_the_cron_jobs() -> None:
    documents = list(yaml.safe_load_all(kubernetes(PLAN)))
    assert [item["metadata"]["name"] for item in documents] == list(NAMES)
    for job, item in zip(jobs(PLAN), documents, strict=True):
        assert (item["apiVersion"], item["kind"]) == ("batch/v1", "CronJob")
        assert known(item, "V1CronJob") == []
        assert (item["spec"]["schedule"], item["spec"]["timeZone"]) == (job.cron(), "Etc/UTC")
        assert item["spec"]["concurrencyPolicy"] == "Forbid"
        pod = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["containers"][0]["args"] == list(job.arguments)
        assert "command" not in pod["containers"][0]  # the image's own entry point is `sre`


def test_an_unknown_field_of_a_cron_job_would_be_seen() -> None:
    document = yaml.safe_load(kubernetes(PLAN).split("---\n")[0])
    document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["arg"] = []
    document["spec"]["timezone"] = "UTC"
    assert known(document, "V1CronJob") == [".spec.jobTemplate.spec.template.spec.containers.arg", ".spec.timezone"]


def test_a_job_of_every_shape() -> None:
    job = Job(name="x", sentence="x", arguments=(), at=time(0, 5), weekday="wednesday")
    assert (job.cron(), job.calendar()) == ("5 0 * * 3", "Wed *-*-* 00:05:00 UTC")
