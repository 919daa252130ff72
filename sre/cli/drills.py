"""`sre drill` and `sre gameday`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.cli.system import Meant, TargetName, check_meant
from sre.config import Settings
from sre.errors import NothingSelected
from sre.units import Seconds, parse_seconds

Duration = Annotated[
    Seconds | None, typer.Option(parser=parse_seconds, metavar="TIME", help="Length of the measured load, as in 60s or 10m.")
]
Rate = Annotated[float | None, typer.Option(min=1, help="Requests a second.")]
Seed = Annotated[int, typer.Option(help="Of the arrival schedule.")]


def drill(
    names: Annotated[list[str] | None, typer.Argument(help="Drills to run, in this order; see --list.")] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show the drills, their promises, and what signed evidence proves.")
    ] = False,
    duration: Duration = None,
    rate: Rate = None,
    seed: Seed = 1,
    replica: Annotated[str, typer.Option(help="The replica that a fault hits.")] = "serving-2",
    place: Annotated[
        Literal["store", "off-site"], typer.Option("--from", help="The copy of the backups that `restore` restores.")
    ] = "store",
    target_name: TargetName = "local",
    meant: Meant = None,
    as_json: AsJson = False,
) -> None:
    """Run drills against the running system. Ctrl-C stops and undoes."""
    from sre.drills import catalog, session
    from sre.drills.base import Options

    settings = Settings()
    if show_list:
        _list(settings, as_json=as_json)
        return
    if not names:
        raise NothingSelected("no drill is named; `sre drill --list` shows them")
    chosen = [catalog.drill(name) for name in names]
    options = Options(duration, rate, seed, replica, "store" if place == "store" else "off_site")
    with output.progress() as narrator, output.interruptible(narrator.change):
        check_meant(settings, target_name, meant)
        finished = session.on_running(settings, target_name, chosen, name="-".join(names), options=options, narrator=narrator)
    _finish(finished, as_json=as_json)


def gameday(
    duration: Duration = None,
    every: Annotated[bool, typer.Option("--every", help="Every drill that the target can do, not one of each kind.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the system running afterwards.")] = False,
    seed: Seed = 1,
    target_name: TargetName = "local",
    meant: Meant = None,
    as_json: AsJson = False,
) -> None:
    """Begin the system if none runs, train, serve, load, break, back up, restore, and judge every promise. About six minutes.
    With --target kubernetes, on the system that runs there: whatever of it that target can do."""  # noqa: D205, D209 - one paragraph of help
    from sre.drills import session
    from sre.drills.base import Options

    settings = Settings()
    with output.progress() as narrator, output.interruptible(narrator.change):
        check_meant(settings, target_name, meant)
        finished = session.gameday(
            settings, target_name, options=Options(duration, None, seed), every=every, keep=keep, narrator=narrator
        )
    _finish(finished, as_json=as_json)


def _list(settings: Settings, *, as_json: bool) -> None:
    from sre.clock import SystemClock, iso
    from sre.drills.catalog import DRILLS
    from sre.evidence import standing
    from sre.units import show_bound

    now = SystemClock().wall()
    rows = standing.standings(settings.evidence, standing.known_key(settings.signing_key))
    rows.sort(key=lambda row: list(DRILLS).index(row.drill))
    bounds = [f"{row.promise.comparison} {show_bound(row.promise.bound, row.promise.unit)}" for row in rows]
    if as_json:
        drills = [
            {
                "drill": row.drill,
                "promise": row.promise.id,
                "bound": bound,
                "last": row.last(),
                "run": row.run or "",
                "at": None if row.at is None else iso(row.at),
                "age_s": None if row.at is None else now - row.at,
                "kept_at": None if row.kept_at is None else iso(row.kept_at),
                "fresh_for_s": row.promise.fresh_for_s,
                "freshness": row.freshness(now),
                "proven": row.proven(now),
            }
            for row, bound in zip(rows, bounds, strict=True)
        ]
        output.document("sre.drills/1", {"drills": drills})
        return
    output.table(
        ("drill", "promise", "bound", "last verdict", "age", "objective", "run"),
        [
            (row.drill, row.promise.id, bound, row.last(), row.age(now), row.objective(now), row.run or "")
            for row, bound in zip(rows, bounds, strict=True)
        ],
    )


def _finish(finished: object, *, as_json: bool) -> None:
    from sre.drills.run import Finished
    from sre.evidence import codec, text

    assert isinstance(finished, Finished)  # noqa: S101 - narrows a type that is imported late
    if as_json:
        typer.echo(codec.dump(finished.record), nl=False)
    else:
        output.console().print(text.result_rich(finished.record))
    raise typer.Exit(finished.record.exit_code)
