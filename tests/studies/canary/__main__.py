"""The canary study: error rates, times of detection and a comparison with other judges, by simulation.

    python -m tests.studies.canary                 the whole study, about half an hour on one core
    python -m tests.studies.canary --short         the same code on few runs, within a minute: to try it
    python -m tests.studies.canary --only C4,C13   some goals

It goes on where it stopped: every finished cell is in the journal. Exit status: 0 every goal reached, 1 one missed, 3 none
missed and one open.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sre.config import PROJECT
from sre.errors import ExitCode, SreError
from tests.studies.canary import report, study
from tests.studies.canary.cells import FULL, SHORT
from tests.studies.canary.goals import Word, goals, judge
from tests.studies.canary.journal import StudyJournal


def main(
    *,
    short: Annotated[bool, typer.Option(help="Few runs: to try it, not to believe it.")] = False,
    only: Annotated[str, typer.Option(help="Which goals, by comma: C1,C4.")] = "",
    folder: Annotated[Path | None, typer.Option(help="Of journal and report; below evidence when left out.")] = None,
) -> None:
    """Run what is missing of the study, judge it, print and write it."""
    scale = SHORT if short else FULL
    chosen = [goal for goal in goals() if not only or goal.id in only.split(",")]
    if not chosen:
        raise typer.BadParameter(f"{only!r} names no goal; there are {', '.join(sorted({goal.id for goal in goals()}))}")
    place = folder or PROJECT / "evidence" / f"canary-study-{scale.name}"
    place.mkdir(parents=True, exist_ok=True)
    settings = study.settings(scale)
    wanted = {goal.cell for goal in chosen}
    cells = [cell for cell in study.all_cells() if not only or cell.id in wanted]
    try:
        journal = StudyJournal(place / "study.jsonl", settings)
        results = study.run(journal, cells, scale, lambda said: typer.echo(said, err=True))
    except SreError as error:
        typer.echo(f"canary study: {error}", err=True)
        sys.exit(error.exit_code)
    judged = judge(chosen, results)
    found = report.document(judged, results, settings)
    (place / "results.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (place / "report.html").write_text(report.html(judged, results, settings), encoding="utf-8")
    typer.echo(report.text(judged, results), nl=False)
    words = {item.word for item in judged}
    sys.exit(ExitCode.BROKEN if Word.MISSED in words else ExitCode.INCONCLUSIVE if Word.OPEN in words else ExitCode.KEPT)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
