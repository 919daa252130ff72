"""Printing: one place for streams, colour, tables, JSON and the narration of what takes long."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from sre.errors import SreError
from sre.evidence import text
from sre.evidence.schema import StepRecord

HEARTBEAT_S = 10.0
_UNFOLDED = 10_000

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def console(*, stderr: bool = False) -> Console:
    """A console of the stream as it is now; rich obeys NO_COLOR and FORCE_COLOR."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def document(schema: str, content: dict[str, Any]) -> None:
    """Print one JSON document with its schema."""
    sys.stdout.write(json.dumps({"schema": schema, **content}, indent=2) + "\n")


def narrate(line: str) -> None:
    """One line for people, on stderr."""
    console(stderr=True).print(Text(line))


def fail(error: SreError, *, as_json: bool) -> None:
    """Say why a command did not do what it was asked."""
    if as_json:
        document("sre.error/1", {"error": str(error), "kind": type(error).__name__, "exit_code": int(error.exit_code)})
    else:
        narrate(f"sre: {error}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Print aligned columns on stdout: folded to a terminal's width, and elsewhere a line per row, however long."""
    grid = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell, style=text.STYLES.get(cell.partition(" ")[0], "")) for cell in row))
    stdout = console()
    if not stdout.is_terminal:
        stdout.width = stdout.measure(grid, options=stdout.options.update(max_width=_UNFOLDED)).maximum
    stdout.print(grid)


class Progress:
    """Narrates a run: a live line on a terminal, elsewhere a line per change and a heartbeat while nothing changes."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._status: Status | None = self._console.status("") if self._console.is_terminal else None
        self._last = time.monotonic()

    def drill(self, name: str, sentence: str, target: str) -> None:
        """Print the drill's heading."""
        self._print(text.styled(text.header_line(name, sentence, target)))

    def step(self, step: StepRecord) -> None:
        """Print a finished step."""
        self._print(text.styled(text.step_line(step)))

    def change(self, line: str) -> None:
        """Print a change of state."""
        self._print(Text(f"  {line}"))

    def say(self, line: str) -> None:
        """Show what is waited for."""
        if self._status is not None:
            self._status.update(Text(line))
            self._status.start()
        elif time.monotonic() - self._last >= HEARTBEAT_S:
            self._print(Text(f"  ... {line}"))

    def close(self) -> None:
        """Take the live line away."""
        if self._status is not None:
            self._status.stop()

    def _print(self, line: Text) -> None:
        self.close()
        self._console.print(line)
        self._last = time.monotonic()


@contextmanager
def progress() -> Iterator[Progress]:
    """A narrator, its live line gone at the end."""
    narrator = Progress()
    try:
        yield narrator
    finally:
        narrator.close()


@contextmanager
def interruptible(say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM interrupts; later ones only say that the undo is under way, so that it ends."""
    seen = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            say("the undo is under way; after a SIGKILL, `sre undo` finishes it")
            return
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
