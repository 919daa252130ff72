"""The failover study: seeded schedules of faults against a real cluster, and what became of every acknowledged write.

It goes on where it stopped: every finished schedule is in the journal. Strict mode must lose nothing; the asynchronous control
must lose something, else the study could not see a loss.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from sre.config import PROJECT, Settings
from sre.errors import ExitCode
from sre.targets.local import target
from sre.targets.local.layout import Synchronous
from tests.studies.failover import cluster, report, study
from tests.studies.failover.journal import StudyJournal
from tests.studies.failover.schedules import kill, schedule

_MODES: dict[str, Synchronous] = {"strict": "strict", "async": "off", "kills": "on"}


def main(
    mode: Annotated[
        Literal["strict", "async", "kills"], typer.Argument(help="What is studied; `kills` are 59 of the primary.")
    ] = "strict",
    schedules: Annotated[int | None, typer.Option(help="How many; 300, 20 and 59 when left out.")] = None,
    clusters: Annotated[int, typer.Option(min=1, help="How many work side by side; each takes a fifth of a core.")] = 1,
    journal: Annotated[Path | None, typer.Option(help="Of this study; below evidence when left out.")] = None,
) -> None:
    """Run what is missing of a study, print what it shows, and fail when that is not what it must."""
    count = schedules or {"strict": 300, "async": 20, "kills": 59}[mode]
    file = journal or PROJECT / "evidence" / f"failover-{mode}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    rate = None if mode == "async" else cluster.RATE
    settings = {"mode": mode, "writers": cluster.WRITERS, "rate": rate, "patroni": version("patroni")}
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    folder.chmod(0o755)
    homes = [folder / f"home-{number}" for number in range(clusters)]
    say = lambda line: typer.echo(line, err=True)  # noqa: E731 - a name for what is handed on
    try:
        begun = [target.up(home, Settings().tools, parts="cluster", synchronous=_MODES[mode], say=say)[0] for home in homes]
        executes = [partial(cluster.execute, one, folder=folder, rate=rate) for one in begun]
        plan = kill if mode == "kills" else schedule
        results = study.run(StudyJournal(file, settings), range(count), executes, say, plan=plan)
    finally:
        for home in homes:
            target.down(home, purge=True)
        shutil.rmtree(folder, ignore_errors=True)
    typer.echo(report.text(mode, results))
    held, _ = report.conclusion(mode, report.summary(results))
    sys.exit(ExitCode.KEPT if held else ExitCode.BROKEN)


if __name__ == "__main__":
    typer.run(main)
