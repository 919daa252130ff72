"""Questions to people, and their answers: on the command line, at the terminal, in Slack, on a page.

An answer counts for the question that was asked and for no other. No answer is never a yes.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import stat
import tempfile
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from sre.errors import UsageError
from sre.notify.slack import NO, YES, Courier

FOLDER = "approvals"
_TYPED = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked.

    Attributes:
        id: 128 random bits, hexadecimal.
        stage: index of the stage that it is about.
        text: for people; yes goes on, no rolls back.
    """

    id: str
    stage: int
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said: whether to go on, who it was, and by which way."""

    yes: bool
    who: str
    how: str


class Channel(Protocol):
    """A way to ask people. Nothing here waits."""

    def ask(self, question: Question) -> None:
        """Put a question; one put before is closed."""
        ...

    def answer(self) -> Answer | None:
        """The answer to the last question, once there is one."""
        ...


class Ask:
    """One question, put in every channel at once; the first answer counts, and of answers seen together a no.

    Args:
        channels: to ask in.
        question: to ask.
    """

    def __init__(self, channels: Sequence[Channel], question: Question) -> None:
        self.question = question
        self._channels = channels
        for channel in channels:
            channel.ask(question)

    def answer(self) -> Answer | None:
        """The answer, once there is one."""
        found = [answer for channel in self._channels if (answer := channel.answer()) is not None]
        return min(found, key=lambda answer: answer.yes, default=None)


class CommandLine:
    """Answers by `sre canary approve` and `reject`: a file in the rollout's folder, named after the question.

    Whoever may write there may answer. Who it was is the file's owner, which no text in it can claim to be.

    Args:
        folder: of the rollout's own files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._question: Question | None = None

    def ask(self, question: Question) -> None:
        """Wait for the file of this question from now on."""
        self._question = question

    def answer(self) -> Answer | None:
        """What the file says; anything but a plain file with an answer in it says nothing."""
        if self._question is None:
            return None
        told: object = None
        try:
            number = os.open(self._folder / f"{self._question.id}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(number, "rb") as file:
                about = os.fstat(number)
                if stat.S_ISREG(about.st_mode):
                    told = json.loads(file.read(1000))
        except (OSError, ValueError):
            return None
        if not isinstance(told, dict) or told.get("question") != self._question.id or not isinstance(told.get("yes"), bool):
            return None
        return Answer(told["yes"], account(about.st_uid), "command line")


def give(folder: Path, question: str, *, yes: bool) -> None:
    """Answer a question of a rollout that runs in another process.

    Args:
        folder: of the rollout's own files.
        question: its id.
        yes: whether to go on.

    Raises:
        UsageError: it was answered before.
    """
    place = folder / FOLDER
    with tempfile.NamedTemporaryFile("w", dir=place, prefix=".") as file:
        json.dump({"question": question, "yes": yes}, file)
        file.flush()
        os.fsync(file.fileno())
        try:
            # A link appears whole or not at all, and never over another answer.
            os.link(file.name, place / f"{question}.json")
        except FileExistsError as error:
            raise UsageError("this question was answered before; see what the rollout prints") from error


class Terminal:
    """Answers typed where the rollout runs: `yes` or `no`, and Enter.

    Args:
        stream: a terminal.
        say: tells what to type.
    """

    def __init__(self, stream: TextIO, say: Callable[[str], None]) -> None:
        self._stream = stream
        self._say = say
        self._open = False

    def ask(self, question: Question) -> None:
        """Say the question. What was typed before it is thrown away."""
        termios.tcflush(self._stream.fileno(), termios.TCIFLUSH)
        self._open = True
        self._say(f"{question.text} Type yes or no, then Enter.")

    def answer(self) -> Answer | None:
        """What was typed, once it is one of the two words."""
        while self._open and select.select([self._stream], [], [], 0)[0]:
            line = self._stream.readline()
            if not line:
                self._open = False
            elif (typed := line.strip().lower()) in _TYPED:
                self._open = False
                return Answer(_TYPED[typed], account(os.getuid()), "terminal")
            else:
                self._say(f"{typed!r} is neither yes nor no; type one of them, then Enter.")
        return None


class InSlack:
    """Answers of approvers in Slack, by a reaction or in the thread.

    Args:
        courier: carries question and answer.
    """

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._number = 0

    def ask(self, question: Question) -> None:
        """Send the question."""
        self._number = self._courier.ask(
            f"{question.text} React with :{YES}: or answer `approve` in this thread to go on; :{NO}: or `reject` rolls back."
        )

    def answer(self) -> Answer | None:
        """What an approver said."""
        reply = self._courier.reply(self._number)
        return None if reply is None else Answer(reply.yes, f"Slack user {reply.user}", f"Slack {reply.how}")


def account(uid: int) -> str:
    """The name of an account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
