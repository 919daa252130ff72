"""`sre drill` and `sre gameday`."""

from __future__ import annotations

from typing import Annotated

import typer

from sre.cli import output
from sre.cli.output import AsJson
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
    show_list: Annotated[bool, typer.Option("--list", help="Show the drills, their promises and their last verdicts.")] = False,
    duration: Duration = None,
    rate: Rate = None,
    seed: Seed = 1,
    replica: Annotated[str, typer.Option(help="The replica that a fault hits.")] = "serving-2",
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
    options = Options(duration, rate, seed, replica)
    with output.progress() as narrator, output.interruptible(narrator.change):
        finished = session.on_running(settings, chosen, name="-".join(names), options=options, narrator=narrator)
    _finish(finished, as_json=as_json)


def gameday(
    duration: Duration = None,
    keep: Annotated[bool, typer.Option(help="Leave the system running afterwards.")] = False,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Begin the system if none runs, train, serve, load, break, back up, restore, and judge every promise. About six minutes."""
    from sre.drills import session
    from sre.drills.base import Options

    settings = Settings()
    with output.progress() as narrator, output.interruptible(narrator.change):
        finished = session.gameday(settings, options=Options(duration, None, seed), keep=keep, narrator=narrator)
    _finish(finished, as_json=as_json)


def _list(settings: Settings, *, as_json: bool) -> None:
    from sre.drills.catalog import DRILLS
    from sre.evidence import bundle
    from sre.promises import promise
    from sre.units import show_bound

    last = bundle.last_drills(settings.evidence)
    rows = []
    for name, kind in DRILLS.items():
        verdicts = {verdict.promise: verdict for verdict in last[name].drill.verdicts} if name in last else {}
        for promise_id in kind.promises:
            row, verdict = promise(promise_id), verdicts.get(promise_id)
            rows.append(
                {
                    "drill": name,
                    "promise": row.id,
                    "bound": f"{row.comparison} {show_bound(row.bound, row.unit)}",
                    "last": f"{verdict.outcome.upper()} {verdict.line()}" if verdict else "never",
                    "run": last[name].run if name in last else "",
                }
            )
    if as_json:
        output.document("sre.drills/1", {"drills": rows})
        return
    output.table(("drill", "promise", "bound", "last verdict", "run"), [tuple(row.values()) for row in rows])


def _finish(finished: object, *, as_json: bool) -> None:
    from sre.drills.run import Finished
    from sre.evidence import codec, text

    assert isinstance(finished, Finished)  # noqa: S101 - narrows a type that is imported late
    if as_json:
        typer.echo(codec.dump(finished.record), nl=False)
    else:
        output.console().print(text.result_rich(finished.record))
    raise typer.Exit(finished.record.exit_code)
