from __future__ import annotations

import io

from rich.console import Console

from sre.canary.watch import Lines, Watch, draw
from tests.sre.canary.test_view import snapshot


def text(width: int = 160, **changed: object) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(draw(snapshot(**changed)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_numbers_beside_bars() -> None:
    shown = text()
    for part in ("digits version 2", "stage 1 of 3", "canary 10 %", "120.0 s left", "HOLD  not yet"):
        assert part in shown
    assert "███████░░░░░░░ 10 of 100" in shown
    assert "░░░░░░░░░░░░░░ 0.5 of 20" in shown
    assert "does not gate" in shown


def test_without_a_look_there_is_no_table() -> None:
    shown = text(standing=None, left_s=None, question="go on?", last="waiting")
    assert "metric" not in shown
    assert "no deadline" in shown
    assert "go on?" in shown


def test_the_live_table_follows() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, color_system=None)
    with Watch(console) as watch:
        watch.show(snapshot())
        watch.change("PROMOTE: all fine")
        watch.show(snapshot(last="still not"))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "PROMOTE: all fine" in shown
    assert "still not" in shown


def test_elsewhere_changes_are_lines_and_the_rest_a_heartbeat() -> None:
    changed: list[str] = []
    said: list[str] = []
    lines = Lines(changed.append, said.append)
    lines.change("a change")
    lines.show(snapshot())
    assert changed == ["a change"]
    assert said[0].startswith("stage 1 of 3; canary 10 %")
