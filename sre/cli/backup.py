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
from sre.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from sre.dr.backup_plan import Plan
    from sre.dr.sets import BackupSet, Place
    from sre.targets.local.layout import Layout

app = typer.Typer(no_args_is_help=True, help="Backups of database, objects and registry, and the plan that they follow.")

PlanFile = Annotated[Path | None, typer.Option("--plan", help="Another plan than backups/plan.yaml.")]


def _plan(file: Path | None) -> Plan:
    from sre.dr import backup_plan

    return backup_plan.load(file or backup_plan.PLAN)


PlaceOption = Annotated[Literal["store", "off-site"], typer.Option("--from", help="Which copy.")]


@app.command()
def create(
    kind: Annotated[
        Literal["full", "diff"], typer.Option(help="Of the database; objects and registry are always whole.")
    ] = "diff",
    reason: Annotated[
        Literal["daily", "weekly", "monthly", "manual"], typer.Option(help="Why it is made; retention counts by the calendar.")
    ] = "manual",
    as_json: AsJson = False,
) -> None:
    """Back up database, objects and registry as one set, in both places, and verify both. A half backup never counts."""
    from sre.dr import backup
    from sre.targets.local.target import attach

    settings = Settings()
    layout = attach(settings.home, settings.tools).layout
    with output.progress() as narrator:
        item = backup.create(layout, kind, reason, say=narrator.say)
    rows = sum(table.rows for table in item.tables.values())
    if as_json:
        output.document("sre.backup-created/1", {"id": item.id, "objects": len(item.objects), "rows": rows})
        return
    output.narrate(f"{item.id}: {len(item.objects):,} objects and {rows:,} rows, verified in both places")


@app.command()
def verify(
    backup_id: Annotated[str | None, typer.Argument(help="One backup; the newest when left out.")] = None,
    place: PlaceOption = "store",
    as_json: AsJson = False,
) -> None:
    """Read every byte of a backup again; what is missing, truncated or altered is named. Needs no running system.

    Without an id, files that should be backups and are not are named too: the newest may be one of them.
    """
    from sre.dr import backup, sets

    settings = Settings()
    chosen = _place_of(place)
    layout = _layout(settings)
    item = _chosen(settings, chosen, backup_id)
    with output.progress() as narrator:
        wrong = backup.verify(layout, item, chosen, say=narrator.say)
    if backup_id is None:
        wrong += sets.listing(sets.places(settings.home)[chosen]).damaged.values()
    _tell(item.id, {chosen: wrong}, as_json=as_json)


@app.command()
def restore(
    into: Annotated[Path | None, typer.Option(help="A new place, which runs beside the system.")] = None,
    over: Annotated[
        str | None, typer.Option(help="Replace the system of this home, which must be down: type the cluster's name, `ml`.")
    ] = None,
    backup_id: Annotated[str | None, typer.Argument(help="One backup; the newest good one when left out.")] = None,
    place: PlaceOption = "store",
    to: Annotated[
        str | None,
        typer.Option(
            help="time:2026-11-24T12:00:00Z, xid:NUMBER, name:MARKER, lsn:0/3000060 or latest; else the set's own moment."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Restore database, objects and registry to one moment: in a new place, or over a system that is down."""
    from sre.dr import place as places
    from sre.dr.recovery import parse

    if (into is None) == (over is None):
        raise UsageError("say where: --into a new folder, or --over the name of the cluster that is replaced")
    settings = Settings()
    layout, chosen = _layout(settings), _place_of(place)
    item = _chosen(settings, chosen, backup_id)
    target = parse(to) if to else None
    with output.progress() as narrator:
        if over is not None:
            aside = places.replace(item, layout, over, place=chosen, target=target, say=narrator.say)
            facts = {"replaced": str(settings.home), "aside": str(aside)}
        elif into is not None:
            restored = places.restore(item, layout, into.resolve(), place=chosen, target=target, say=narrator.say)
            facts = {"home": str(into.resolve()), "ingress": restored.target.endpoints.ingress, "reached": restored.reached.words}
    if as_json:
        output.document("sre.restored/1", {"backup": item.id, **facts})
    else:
        output.table(("what", "where"), [("backup", item.id), *facts.items()])
        output.narrate("begin it with `sre up`" if over else f"end it with `SRE_HOME={into} sre down --purge`")


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    plan: PlanFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove what the plan no longer keeps: sets, database backups, objects, versions; compress what grew cold."""
    from sre.dr import backup

    settings, rules = Settings(), _plan(plan)
    with output.progress() as narrator:
        gone = backup.prune(_layout(settings), rules, time.time(), dry_run=dry_run, say=narrator.say)
    if as_json:
        output.document("sre.pruned/1", {"dry_run": dry_run, "gone": gone})
        return
    for line in gone:
        typer.echo(line)
    output.narrate(f"{len(gone)} things {'would go' if dry_run else 'are gone'}")


def _layout(settings: Settings) -> Layout:
    from sre.targets.local.target import layout_of

    return layout_of(settings.home, settings.tools)


def _place_of(option: str) -> Place:
    return "store" if option == "store" else "off_site"


def _chosen(settings: Settings, place: Place, backup_id: str | None) -> BackupSet:
    from sre.dr import sets

    found = sets.listing(sets.places(settings.home)[place])
    if backup_id is None:
        good = [name for name in found.sets if found.health(name) == "good"]
        backup_id = next(iter(reversed(good or list(found.sets))), None)
    if backup_id not in found.sets:
        raise UsageError(f"{place} holds no backup {backup_id or 'at all'}; `sre backup list` shows what there is")
    return found.sets[backup_id]


def _tell(name: str, wrong: dict[Place, list[str]], *, as_json: bool) -> None:
    if as_json:
        output.document("sre.backup-verified/1", {"id": name, "wrong": wrong})
    else:
        for place, sentences in wrong.items():
            for sentence in sentences:
                typer.echo(f"{place}: {sentence}")
            output.narrate(f"{name} in {place}: {'DAMAGED' if sentences else 'every file is as it was written'}")
    if any(wrong.values()):
        raise typer.Exit(ExitCode.BROKEN)


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
    named = sets.newest_aliased(sets.places(settings.home)["store"]) or frozenset()
    actions = rules.due(root, buckets, time.time(), named) if root.exists() else []
    if as_json:
        due = [{"verb": item.verb, "object": f"{item.bucket}/{item.path}", "age_s": item.age_s} for item in actions]
        output.document("sre.lifecycle/1", {"due": due})
        return
    for item in actions:
        typer.echo(item.line())
    output.narrate(f"{len(actions)} objects are due")
