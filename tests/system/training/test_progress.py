from __future__ import annotations

import io

import pytest
from rich.console import Console

from system.training import progress as progress_module
from system.training.progress import Progress


def narrate(console: Console) -> str:
    with Progress(console).step("fit") as step:
        step.advance(1, 2, "epoch 1 of 2")
        step.said = "2 epochs"
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_a_step_is_one_plain_line() -> None:
    text = narrate(Console(file=io.StringIO()))
    assert text.count("\n") == 1
    name, _, *rest = text.split()
    assert (name, rest) == ("fit", ["s", "2", "epochs", "ok"])
    assert "\x1b" not in text


def test_on_a_terminal_a_bar_moves_and_the_line_stays() -> None:
    text = narrate(Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm-256color"}))
    assert "epoch 1 of 2" in text
    assert text.rstrip().endswith("\x1b[32mok\x1b[0m")


def test_no_color_is_respected() -> None:
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    text = narrate(Console(file=io.StringIO(), force_terminal=True, width=100, _environ=environment))
    assert "\x1b[32m" not in text
    assert "ok" in text


def test_a_dumb_terminal_gets_plain_lines() -> None:
    text = narrate(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}))
    assert text.count("\n") == 1


def test_a_failure_is_told_and_passed_on() -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(ValueError, match="broken"), Progress(console).step("fit"):
        raise ValueError("broken")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split()[-1] == "FAILED"


def test_a_long_step_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO())
    monkeypatch.setattr(progress_module, "_HEARTBEAT_S", 0.0)
    assert "epoch 1 of 2\n" in narrate(console)


def test_narration_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().step("fit"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fit" in captured.err
