"""The plan as what runs it: a crontab, systemd units, or Kubernetes CronJobs. Pure; all three come from the same jobs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Any

import yaml

from sre.dr.backup_plan import Plan

IMAGE = "ml-sre"  # a kustomization gives it registry and digest
WITHIN_S = 3600 * 4  # a job that takes longer is ended

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_SOURCE = "Rendered from backups/plan.yaml by `sre backup schedule`; change it there."


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command and its times, UTC.

    Attributes:
        name: for units and objects.
        sentence: what it does.
        arguments: of `sre`.
        at: time of day.
        weekday: only on this day; None: on every one.
        day_of_month, months: only on this day of these months; never together with a weekday, since cron would take either.
    """

    name: str
    sentence: str
    arguments: tuple[str, ...]
    at: time
    weekday: str | None = None
    day_of_month: int | None = None
    months: tuple[int, ...] = ()

    def cron(self) -> str:
        """The five fields of a crontab line."""
        day = "*" if self.day_of_month is None else str(self.day_of_month)
        weekday = "*" if self.weekday is None else str(_WEEKDAYS.index(self.weekday))
        return f"{self.at.minute} {self.at.hour} {day} {','.join(map(str, self.months)) or '*'} {weekday}"

    def calendar(self) -> str:
        """The calendar expression of a systemd timer."""
        months = ",".join(f"{month:02}" for month in self.months) or "*"
        day = "*" if self.day_of_month is None else f"{self.day_of_month:02}"
        weekday = "" if self.weekday is None else f"{self.weekday[:3].capitalize()} "
        return f"{weekday}*-{months}-{day} {self.at:%H:%M}:00 UTC"


def jobs(plan: Plan) -> tuple[Job, ...]:
    """Everything that the plan asks to be run."""
    daily, weekly, restore = plan.backups.daily, plan.backups.weekly, plan.restore
    create = ("backup", "create", "--kind")
    return (
        Job(
            name="backup-daily", sentence="Back up database, objects and registry",
            arguments=(*create, daily.kind, "--reason", "daily"), at=daily.at,
        ),
        Job(
            name="backup-weekly", sentence="Back up everything in full; the first of a month is kept for months",
            arguments=(*create, weekly.kind, "--reason", "weekly"), at=weekly.at, weekday=weekly.day,
        ),
        Job(
            name="backup-prune", sentence="Remove what the plan no longer keeps",
            arguments=("backup", "prune"), at=plan.prune.at,
        ),
        Job(
            name="restore-drill", sentence="Restore the newest backup beside the running system and compare",
            arguments=("drill", "restore", "--from", _option(restore.drill.place)),
            at=restore.drill.at, weekday=restore.drill.day,
        ),
        Job(
            name="restore-quarterly", sentence="Restore the newest off-site backup and compare",
            arguments=("drill", "restore", "--from", _option(restore.quarterly.place)), at=restore.quarterly.at,
            day_of_month=restore.quarterly.day_of_month, months=tuple(restore.quarterly.months),
        ),
    )  # fmt: skip


def crontab(plan: Plan, program: Path, environment: Mapping[str, str]) -> str:
    """Lines for `crontab -e` of one user.

    Args:
        plan: the plan.
        program: absolute path of `sre`; cron's PATH is short.
        environment: variables that the commands need, as SRE_HOME.
    """
    head = [
        f"# {_SOURCE}",
        "# All times are UTC. cronie obeys CRON_TZ; Debian's cron does not: there the machine's own time zone must be UTC.",
        "CRON_TZ=UTC",
        *(f'{name}="{value}"' for name, value in sorted(environment.items())),
    ]
    command = shlex.quote(str(program)).replace("%", r"\%")  # cron reads a bare % as the end of the line
    return "\n".join([*head, *(f"{job.cron()} {command} {' '.join(job.arguments)}" for job in jobs(plan))]) + "\n"


def systemd(plan: Plan, program: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Text of every unit by file name, for /etc/systemd/system or ~/.config/systemd/user; arguments as of `crontab`.

    A timer that was due while the machine was off runs when it is back.
    """
    units = {}
    command = f'"{_escaped(str(program))}"'
    for job in jobs(plan):
        variables = "".join(f'Environment="{name}={_escaped(value)}"\n' for name, value in sorted(environment.items()))
        units[f"sre-{job.name}.service"] = (
            f"# {_SOURCE}\n[Unit]\nDescription={job.sentence}\n\n"
            f"[Service]\nType=oneshot\n{variables}ExecStart={command} {' '.join(job.arguments)}\n"
            f"Nice=10\nTimeoutStartSec={WITHIN_S}\n"
        )
        units[f"sre-{job.name}.timer"] = (
            f"# {_SOURCE}\n[Unit]\nDescription={job.sentence}, at times in UTC\n\n"
            f"[Timer]\nOnCalendar={job.calendar()}\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
        )
    return units


def kubernetes(plan: Plan, image: str = IMAGE) -> str:
    """One CronJob per job, as YAML documents. The service account `sre-backup` and the claims are the overlay's."""
    documents = [yaml.safe_dump(_cron_job(job, image), sort_keys=False, width=130) for job in jobs(plan)]
    return f"# {_SOURCE}\n" + "---\n".join(documents)


def _cron_job(job: Job, image: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": job.name, "app.kubernetes.io/part-of": "ml-sre"}
    container = {
        "name": "sre",
        "image": image,
        "args": list(job.arguments),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": "sre-backup",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": job.name, "labels": labels, "annotations": {"ml-sre/does": job.sentence}},
        "spec": {
            "schedule": job.cron(),
            "timeZone": "Etc/UTC",
            # A backup that takes long must not meet the next one.
            "concurrencyPolicy": "Forbid",
            # Without a bound, a controller that missed 100 starts gives the job up for good.
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 1,
                    "activeDeadlineSeconds": WITHIN_S,
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                }
            },
        },
    }


def _option(place: str) -> str:
    return place.replace("_", "-")


def _escaped(text: str) -> str:
    return text.replace("%", "%%")  # systemd reads % as the beginning of a specifier
