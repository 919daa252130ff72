"""The backup study: SIGKILL at random moments of `sre backup create` on a real cluster, and what must hold after each.

The next backup succeeds at once, no half set counts, every earlier one is whole, and every tenth kill the newest is restored and
its rows and objects are those of a ledger. It goes on where it stopped: every finished kill is in the journal.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from sre.config import PROJECT, Settings
from tests.studies.backup_kill import report
from tests.studies.backup_kill.moments import planned
from tests.studies.backup_kill.study import Result, Study
from tests.studies.backup_kill.system import begun
from tests.studies.journal import Journal

EVERY = 10


def main(
    kills: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    journal: Annotated[Path | None, typer.Option(help="Of this study; below evidence when left out.")] = None,
) -> None:
    """Carry out the kills that the journal lacks, print what all of them show, and fail when that is not what was promised."""
    file = journal or PROJECT / "evidence" / "backup-kill.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with ExitStack() as held:

        @cache
        def study() -> Study:
            """Begun with the first kill that the journal lacks."""
            system = held.enter_context(begun(Settings().tools, say))
            return Study(system, {kind: system.create(kind) for kind in ("full", "diff")}, say)

        def work(seed: int) -> dict[str, Any]:
            one = study().run(planned(seed), thorough=seed % EVERY == EVERY - 1 or seed == kills - 1)
            say(report.line(one))
            return asdict(one)

        results = [
            Result(**found) for found in Journal(file, "sre.study-backup-kill/1").results("backup-kill", range(kills), work)
        ]
    typer.echo(report.text(results), nl=False)
    sys.exit(report.conclusion(results)[0])


if __name__ == "__main__":
    typer.run(main)
