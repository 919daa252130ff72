"""The view of a rollout at a terminal: a table that follows it. Elsewhere a line per change and a heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sre.canary.view import Evidence, Snapshot, duration, percent, rows, status_line, style

_CELLS = 14


class Watch:
    """A live table.

    Args:
        console: of a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw it anew."""
        self._live.update(draw(snapshot), refresh=True)

    def change(self, line: str) -> None:
        """Print a change above the table."""
        self._live.console.print(Text(f"  {line}"))


class Lines:
    """Lines for what is no terminal.

    Args:
        change: prints a change.
        say: prints a heartbeat, when one is due.
    """

    def __init__(self, change: Callable[[str], None], say: Callable[[str], None]) -> None:
        self.change = change
        self._say = say

    def show(self, snapshot: Snapshot) -> None:
        """A heartbeat."""
        self._say(status_line(snapshot))


def draw(snapshot: Snapshot) -> Group:
    """The whole view."""
    left = "no deadline" if snapshot.left_s is None else f"{duration(max(snapshot.left_s, 0.0))} left"
    head = Text(f"{snapshot.title}   {snapshot.run}\n", style="bold")
    head.append(
        f"stage {snapshot.stage}   canary {percent(snapshot.canary)}   control {percent(snapshot.control)}   "
        f"{duration(snapshot.elapsed_s)} since the start   {left}",
        style="not bold",
    )
    parts: list[Text | Table] = [head]
    standing = snapshot.standing
    if standing is not None:
        parts.append(_table(snapshot))
        parts.append(Text(standing.action.value, style=style(standing.action)).append(f"  {snapshot.last}", style="not bold"))
    else:
        parts.append(Text(snapshot.last))
    if snapshot.question:
        parts.append(Text(snapshot.question, style="bold"))
    return Group(*parts)


def _table(snapshot: Snapshot) -> Table:
    assert snapshot.standing is not None  # noqa: S101 - asked before
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("metric", "canary", "control", "events"):
        grid.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    grid.add_column("evidence that it is worse", no_wrap=True)
    grid.add_column("evidence that it is fine", no_wrap=True)
    for row in rows(snapshot.standing):
        grid.add_row(
            row.metric, row.canary, row.control, row.n, _bar(row.worse, "red"),
            Text("does not gate" if row.n else "") if row.fine is None else _bar(row.fine, "green"),
        )  # fmt: skip
    return grid


def _bar(found: Evidence, colour: str) -> Text:
    full = int(found.share * _CELLS)
    return Text("█" * full, style=colour).append("░" * (_CELLS - full), style="dim").append(f" {found.text}", style="not dim")
