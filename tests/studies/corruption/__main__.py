"""The corruption study: every kind of damage to copies of real backups, then clean runs on the system that made them.

    python -m tests.studies.corruption                begins a system of its own and deletes it: about 15 minutes
    python -m tests.studies.corruption --home FOLDER  on a system that runs there; it grows, and gets backups

Exit status: 0 every kind found and no false alarm, 1 otherwise.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sre.cli import output
from sre.config import PROJECT, Settings
from sre.dr import backup
from sre.errors import ExitCode
from sre.targets.local import target
from sre.targets.local.layout import Layout
from tests.studies.corruption import clean, report
from tests.studies.corruption.clean import Look
from tests.studies.corruption.kinds import KINDS, Outcome, outcome
from tests.studies.corruption.scene import detach


def main(
    home: Annotated[Path | None, typer.Option(help="Of a running system; one is begun and deleted when left out.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help=f"Of growth, with {clean.LOOKS} clean runs each.")] = 10,
    file: Annotated[Path | None, typer.Option("--json", help="Of the report; below evidence when left out.")] = None,
) -> None:
    """Run the study, print what it shows, and fail when a kind is not found or a clean run is."""
    into = file or PROJECT / "evidence" / "corruption-study.json"
    into.parent.mkdir(parents=True, exist_ok=True)
    outcomes, looks = list[Outcome](), list[Look]()
    folder = Path(tempfile.mkdtemp(prefix="corruption-"))
    folder.chmod(0o755)
    try:
        with _system(home, folder) as layout:
            for one in _kinds(layout, folder):
                outcomes.append(one)
                _say(f"{one.part}, {one.name}: {'found' if one.found else 'NOT FOUND'}")
            for seen in clean.run(layout, rounds):
                looks += seen
                _say(f"{len(looks)} clean runs, {sum(look.alarm for look in looks)} alarms; the last after {looks[-1].after}")
    finally:
        # Also of a study that was interrupted: the goals tell that it has not seen enough.
        into.write_text(json.dumps(report.document(outcomes, looks), indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
    report.show_all(output.console(), outcomes, looks)
    sys.exit(ExitCode.KEPT if all(met for met, _ in report.sentences(outcomes, looks)) else ExitCode.BROKEN)


@contextmanager
def _system(home: Path | None, folder: Path) -> Iterator[Layout]:
    if home is not None:
        yield target.attach(home.resolve(), Settings().tools).layout
        return
    own = folder / "home"
    try:
        yield target.up(own, Settings().tools, replicas=1, say=_say)[0].layout
    finally:
        target.down(own, purge=True)


def _kinds(layout: Layout, folder: Path) -> Iterator[Outcome]:
    base, item = backup.create(layout, "full"), backup.create(layout, "diff")
    scene = detach(layout, folder / "scene", base, item)
    for kind in KINDS:
        yield outcome(kind, scene, folder / "copy")
        shutil.rmtree(folder / "copy")


def _say(line: str) -> None:
    typer.echo(line, err=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
