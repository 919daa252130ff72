"""`sre report`, `sre history`, `sre verify`, `sre undo`: what runs left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import Settings
from sre.errors import CannotRun, EvidenceDamaged, ExitCode

Run = Annotated[str | None, typer.Argument(help="Id of a run or path to its folder; the newest when left out.")]


def report(run: Run = None, as_json: AsJson = False) -> None:
    """Print the text of a run again, from its files alone; the exit code is the run's."""
    from sre.evidence import bundle, codec, text

    record = bundle.load(_folder(run))
    if as_json:
        typer.echo(codec.dump(record), nl=False)
    else:
        output.console().print(text.run_rich(record))
    raise typer.Exit(record.exit_code)


def history(
    drills: Annotated[list[str] | None, typer.Argument(help="Names of drills; all that ever ran when left out.")] = None,
    target: Annotated[str, typer.Option(help="Only runs on this target.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what all signed runs say together: how often each promise was kept, the share of times it is kept at least, and how
    long it took. 59 of 59 show at least 95 %, 29 of 29 at least 90 %. Runs that decided nothing are counted, never dropped."""  # noqa: D205, D209 - one paragraph of help
    from sre.drills import catalog
    from sre.evidence import history as trials
    from sre.evidence import standing

    settings = Settings()
    for name in drills or ():
        catalog.drill(name)
    found = trials.trials(settings.evidence, standing.known_key(settings.signing_key), drills or (), target)
    if not found:
        raise CannotRun(
            f"no signed run of {' or '.join(drills or ['any drill'])} lies below {settings.evidence}; see `sre drill`"
        )
    if as_json:
        output.document("sre.history/1", {"trials": [one.document() for one in found]})
        return
    output.table(trials.COLUMNS, [one.row() for one in found], right=frozenset(trials.COLUMNS[4:9]))


def verify(
    run: Run = None,
    key: Annotated[
        Path | None, typer.Option(metavar="PUBLIC.pem", help="Public key of the signer; this machine's own when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a run without trusting it: signature, every file, and every verdict computed anew from the raw samples."""
    from sre.drills.run import verify as check
    from sre.evidence import sign

    folder = _folder(run)
    path = key or sign.public_path(Settings().signing_key)
    signer = sign.public_key(path)
    wrong = check(folder, signer)
    if as_json:
        signed = {"id": sign.key_id(signer), "file": str(path)}
        output.document("sre.verify/1", {"run": folder.name, "key": signed, "holds": not wrong, "wrong": wrong})
        raise typer.Exit(ExitCode.CANNOT_RUN if wrong else ExitCode.KEPT)
    if wrong:
        raise EvidenceDamaged(f"{folder.name} does not hold: {'; '.join(wrong)}")
    whose = "which you named" if key else f"this machine's own, {path}"
    typer.echo(
        f"{folder.name} holds: it is signed with key {sign.key_id(signer)} ({whose}), every file is unaltered, "
        "every verdict follows from the raw samples"
    )


def undo(
    run: Annotated[str | None, typer.Option("--run", help="Id of a run; every run with something left when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take back what drills left changed, as after a crash. Safe to repeat."""
    from sre.drills.run import undo as take_back
    from sre.evidence import bundle

    settings = Settings()
    folders = [bundle.find(settings.evidence, run)] if run else bundle.runs(settings.evidence)
    done = {folder.name: sentences for folder in folders if (sentences := take_back(folder, settings.tools))}
    if as_json:
        output.document("sre.undo/1", {"undone": done})
        return
    for name, sentences in done.items():
        typer.echo(f"{name}: {'; '.join(sentences)}")
    if not done:
        typer.echo("nothing is left to undo")


def _folder(run: str | None) -> Path:
    from sre.evidence import bundle

    root = Settings().evidence
    return bundle.find(root, run) if run else bundle.latest(root)
