from __future__ import annotations

import json
import os
import signal
import time

import pytest

from sre.cli import output
from sre.errors import StepFailed
from sre.evidence.schema import StepRecord


def test_a_document_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.document("sre.x/1", {"a": 1})
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == ({"schema": "sre.x/1", "a": 1}, "")


def test_narration_and_errors_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.narrate("[bold]as it is[/bold]")
    output.fail(StepFailed("replica [2] is away"), as_json=False)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "[bold]as it is[/bold]\nsre: replica [2] is away\n")


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("what", "n"), [("[red]x", "1"), ("KEPT 1 of 2", "22")], right=frozenset({"n"}))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["what", "n"], ["[red]x", "1"], ["KEPT", "1", "of", "2", "22"]]


def test_without_a_terminal_a_wait_is_told_seldom(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with output.progress() as narrator:
        narrator.drill("pod-recovery", "a killed pod serves again", "local")
        narrator.step(StepRecord(name="steady", seconds=1.0, result="ok", detail="fine"))
        narrator.change("serving-2 is gone")
        narrator.say("1 of 3 ready")
        monkeypatch.setattr(output, "HEARTBEAT_S", 0.0)
        narrator.say("2 of 3 ready")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "pod-recovery" in printed.err
    assert "steady" in printed.err
    assert "1 of 3 ready" not in printed.err
    assert printed.err.endswith("  serving-2 is gone\n  ... 2 of 3 ready\n")


def test_on_a_terminal_a_wait_is_a_live_line_that_goes_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with output.progress() as narrator:
        narrator.say("1 of 3 ready")
        time.sleep(0.2)
        narrator.change("all are ready")
    assert "all are ready" in capsys.readouterr().err


def test_the_first_interrupt_interrupts_and_later_ones_let_the_undo_end() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with output.interruptible(said.append):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["the undo is under way; after a SIGKILL, `sre undo` finishes it"] * 2
    assert signal.getsignal(signal.SIGTERM) is before
