"""What a person sees of a training: a moving bar on a terminal, elsewhere one line a step and a heartbeat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

_HEARTBEAT_S = 10.0


class Progress:
    """Narrates steps.

    Args:
        console: where to; standard error when None, so that results alone are on standard output. rich decides about colour
            and motion: NO_COLOR, FORCE_COLOR and TERM count.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step while the block runs, then its line: name, seconds, what it `said`, and whether it failed."""
        started = time.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        moving = self._console.is_terminal and not self._console.is_dumb_terminal
        outcome = ("FAILED", "red")
        bars = Bars(*columns, console=self._console, transient=True, disable=not moving)
        step = Step(name, bars, None if moving else self._console)
        try:
            with bars:
                yield step
            outcome = ("ok", "green")
        finally:
            line = Text(f"  {name:<12}{time.monotonic() - started:6.1f} s   {step.said:<72} ").append(*outcome)
            self._console.print(line, soft_wrap=True)


class Step:
    """One step under way."""

    def __init__(self, name: str, bars: Bars, plain: Console | None) -> None:
        self.name = name
        self.said = ""
        self._bars = bars
        self._task = bars.add_task(name, total=None)
        self._plain = plain
        self._started = self._spoke = time.monotonic()

    def advance(self, done: int, total: int, text: str) -> None:
        """Tell how far the step is; without a terminal, a line at most every 10 s."""
        self._bars.update(self._task, completed=done, total=total, description=f"{self.name}  {text}")
        now = time.monotonic()
        if self._plain is not None and now - self._spoke >= _HEARTBEAT_S:
            self._spoke = now
            self._plain.print(f"  {self.name:<12}{now - self._started:6.1f} s   {text}", soft_wrap=True, highlight=False)
