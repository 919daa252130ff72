"""`sre backup`: sets of database, objects and registry, and the plan that they follow."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import Settings
from sre.errors import ExitCode

if TYPE_CHECKING:
    from sre.dr.backup_plan import Plan
    from sre.dr.sets import Place

app = typer.Typer(no_args_is_help=True, help="Backups of database, objects and registry, and the plan that they follow.")

PlanFile = Annotated[Path | None, typer.Option("--plan", help="Another plan than backups/plan.yaml.")]


def _plan(file: Path | None) -> Plan:
    from sre.dr import backup_plan

    return backup_plan.load(file or backup_plan.PLAN)


@app.command(name="list")
def list_sets(plan: PlanFile = None, as_json: AsJson = False) -> None:
    """Show every backup of every place, why it is kept, and what is damaged or too old. Needs no running system."""
    from sre.dr import sets

    settings, rules, now = Settings(), _plan(plan), time.time()
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    for place, root in sets.places(settings.home).items():
        found, complaints = _place(place, root, rules, now)
        rows += found
        wrong += complaints
    if as_json:
        output.document("sre.backups/1", {"home": str(settings.home), "backups": rows, "wrong": wrong})
    else:
        columns = ("place", "backup", "reason", "state", "objects", "bytes", "kept because")
        lines = [
            (*(str(value) for value in list(row.values())[:-1]), "; ".join(row["kept"]) or "goes at the next prune")
            for row in rows
        ]
        output.table(columns, lines, right=frozenset({"objects", "bytes"}))
        for sentence in wrong:
            output.narrate(sentence)
    if wrong:
        raise typer.Exit(ExitCode.CANNOT_RUN)


def _place(place: Place, root: Path, plan: Plan, now: float) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per set of a place, and a sentence for each thing wrong there."""
    from datetime import UTC, datetime

    from sre.dr import retention, sets
    from sre.dr.retention import Policy

    found, moment = sets.listing(root), datetime.fromtimestamp(now, UTC)
    states = found.states(place)
    kept = retention.keep(states, moment, Policy.of(plan))
    rows = []
    for state in states:
        item = found.sets[state.id]
        rows.append(
            {
                "place": place, "id": state.id, "reason": item.reason, "state": str(state.health), "objects": len(item.objects),
                "bytes": sum({ref.sha256: ref.size for ref in item.objects.values()}.values()), "kept": kept.get(state.id, ()),
            }
        )  # fmt: skip
    wrong = [f"{place}: {sentence}" for sentence in found.damaged.values()]
    wrong += [
        f"{place}: {name}: {sentence}" for name, check in found.checks.items() if name in found.sets for sentence in check.wrong
    ]
    old = retention.stale(states, moment, getattr(plan.places, place).max_age, place)
    return rows, [*wrong, old] if old else wrong


@app.command()
def schedule(
    form: Annotated[Literal["cron", "systemd", "kubernetes"], typer.Option("--format", help="What runs the jobs.")] = "cron",
    into: Annotated[Path | None, typer.Option(help="Write files into this folder instead of printing them.")] = None,
    plan: PlanFile = None,
    as_json: AsJson = False,
) -> None:
    """Print what runs the plan: a crontab, systemd units, or Kubernetes CronJobs. Installs nothing; times are UTC."""
    from sre.dr import schedule as render

    settings, rules = Settings(), _plan(plan)
    program = Path(sys.executable).with_name("sre")
    environment = {
        "SRE_HOME": str(settings.home), "SRE_TOOLS": str(settings.tools), "SRE_EVIDENCE": str(settings.evidence)
    }  # fmt: skip
    if form == "cron":
        files = {"crontab": render.crontab(rules, program, environment)}
    elif form == "systemd":
        files = render.systemd(rules, program, environment)
    else:
        files = {"cronjobs.yaml": render.kubernetes(rules)}
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (into / name).write_text(text, encoding="utf-8")
    if as_json:
        output.document("sre.schedule/1", {"format": form, "files": files})
    elif into is not None:
        output.narrate(f"{len(files)} files are in {into}")
    else:
        typer.echo("\n".join(f"# {name}\n{text}" if len(files) > 1 else text for name, text in files.items()), nl=False)


@app.command()
def lifecycle(
    s3: Annotated[bool, typer.Option("--s3", help="Print the rules as S3 lifecycle configurations, by bucket.")] = False,
    plan: PlanFile = None,
    as_json: AsJson = False,
) -> None:
    """Show which old objects are due to be deleted or compressed. Changes nothing; `sre backup prune` does it."""
    from sre.dr import lifecycle as rules
    from sre.dr import sets

    settings, buckets = Settings(), _plan(plan).buckets
    if s3:
        output.document("sre.lifecycle-s3/1", {"buckets": rules.s3(buckets)})
        return
    root = settings.home / "data" / "objects"
    known = sets.listing(sets.places(settings.home)["store"]).sets
    # Without the running registry, the newest backup tells which objects an alias names.
    named = sets.aliased(list(known.values())[-1].registry) if known else frozenset()
    actions = rules.due(root, buckets, time.time(), named) if root.exists() else []
    if as_json:
        due = [{"verb": item.verb, "object": f"{item.bucket}/{item.path}", "age_s": item.age_s} for item in actions]
        output.document("sre.lifecycle/1", {"due": due})
        return
    for item in actions:
        typer.echo(item.line())
    output.narrate(f"{len(actions)} objects are due")
