from __future__ import annotations

import json
import os
import pty
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from sre.canary.approval import FOLDER, Answer, Ask, CommandLine, InSlack, Question, Terminal, account, give
from sre.errors import UsageError
from sre.notify.slack import Courier, Reply

FIRST, SECOND = Question("a" * 32, 1, "go on to 50 %?"), Question("b" * 32, 2, "go on to 100 %?")


class Fixed:
    def __init__(self, answer: Answer | None) -> None:
        self._answer = answer
        self.asked: list[Question] = []

    def ask(self, question: Question) -> None:
        self.asked.append(question)

    def answer(self) -> Answer | None:
        return self._answer


def test_every_channel_is_asked_and_a_no_outvotes_a_yes() -> None:
    yes, no = Answer(yes=True, who="a", how="x"), Answer(yes=False, who="b", how="y")
    channels = [Fixed(None), Fixed(yes), Fixed(no)]
    assert Ask(channels, FIRST).answer() == no
    assert [channel.asked for channel in channels] == [[FIRST]] * 3
    assert Ask(channels[:2], FIRST).answer() == yes
    assert Ask(channels[:1], FIRST).answer() is None


def test_the_command_line_answers_its_question(tmp_path: Path) -> None:
    channel = CommandLine(tmp_path)
    assert channel.answer() is None
    channel.ask(FIRST)
    assert channel.answer() is None
    give(tmp_path, FIRST.id, yes=True)
    assert channel.answer() == Answer(yes=True, who=account(os.getuid()), how="command line")
    channel.ask(SECOND)
    assert channel.answer() is None
    give(tmp_path, SECOND.id, yes=False)
    assert channel.answer() == Answer(yes=False, who=account(os.getuid()), how="command line")
    with pytest.raises(UsageError, match="answered before"):
        give(tmp_path, FIRST.id, yes=False)


@pytest.mark.parametrize(
    "content", [b"", b"yes", b"[]", b"{}", json.dumps({"question": FIRST.id, "yes": 1}).encode(), b"\xff",
                json.dumps({"question": SECOND.id, "yes": True}).encode(), b'{"question": ' + b" " * 2000 + b'"x"}'],
)  # fmt: skip
def test_sabotage_what_is_no_answer_says_nothing(tmp_path: Path, content: bytes) -> None:
    channel = CommandLine(tmp_path)
    channel.ask(FIRST)
    (tmp_path / FOLDER / f"{FIRST.id}.json").write_bytes(content)
    assert channel.answer() is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere.json")])
def test_sabotage_what_is_no_file_says_nothing(tmp_path: Path, make: Callable[[Path], object]) -> None:
    channel = CommandLine(tmp_path)
    channel.ask(FIRST)
    (tmp_path / FOLDER / "elsewhere.json").write_text(json.dumps({"question": FIRST.id, "yes": True}))
    make(tmp_path / FOLDER / f"{FIRST.id}.json")
    assert channel.answer() is None


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stream:
        yield master, stream
    os.close(master)


def eventually(channel: Terminal) -> Answer:
    deadline = time.monotonic() + 10
    while (answer := channel.answer()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


def test_the_terminal_takes_two_words(terminal: tuple[int, TextIO]) -> None:
    master, stream = terminal
    said: list[str] = []
    channel = Terminal(stream, said.append)
    assert channel.answer() is None
    channel.ask(FIRST)
    assert channel.answer() is None
    os.write(master, b"y\nYES \n")
    assert eventually(channel) == Answer(yes=True, who=account(os.getuid()), how="terminal")
    assert said == [f"{FIRST.text} Type yes or no, then Enter.", "'y' is neither yes nor no; type one of them, then Enter."]
    channel.ask(SECOND)
    os.write(master, b"no\n")
    assert not eventually(channel).yes


def test_sabotage_what_was_typed_before_the_question_is_no_answer(terminal: tuple[int, TextIO]) -> None:
    master, stream = terminal
    channel = Terminal(stream, lambda _: None)
    os.write(master, b"yes\n")
    channel.ask(FIRST)
    assert channel.answer() is None


def test_a_terminal_that_is_gone_says_nothing(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stream:
        channel = Terminal(stream, lambda _: None)
        channel.ask(FIRST)
        os.write(master, b"\x04")
        time.sleep(0.05)
        assert channel.answer() is None
        assert channel.answer() is None
    os.close(master)


def test_an_account_without_a_name_is_a_number() -> None:
    assert account(4_000_000_000) == "uid 4000000000"


class SilentCourier(Courier):
    """A courier without a Slack: it keeps questions, and has the answers that a test gives it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.given: dict[int, Reply] = {}

    def ask(self, text: str) -> int:
        self.texts.append(text)
        return len(self.texts)

    def reply(self, question: int) -> Reply | None:
        return self.given.get(question)


def test_slack_answers_its_question() -> None:
    courier = SilentCourier()
    channel = InSlack(courier)
    assert channel.answer() is None
    channel.ask(FIRST)
    courier.given[1] = Reply("U1", yes=True, how="reaction")
    assert channel.answer() == Answer(yes=True, who="Slack user U1", how="Slack reaction")
    channel.ask(SECOND)
    assert channel.answer() is None
    assert [text.startswith(question.text) for text, question in zip(courier.texts, (FIRST, SECOND), strict=True)] == [True, True]
