"""The questions of a rollout: each on disk before it is asked, each answer before it counts."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence

from sre.canary.approval import Answer, Ask, Channel, Question
from sre.canary.record import Course, Record

APPROVAL, DEADLINE = "approval", "deadline"  # what a question is about


class Questions:
    """Asks one question at a time.

    Args:
        record: where questions and answers are written.
        channels: where they are asked.
        say: tells people here.
        course: what was answered before a crash.
    """

    def __init__(self, record: Record, channels: Sequence[Channel], say: Callable[[str], None], course: Course | None) -> None:
        self._record, self._channels, self._say = record, channels, say
        answered = course.of("answer", yes=True) if course else []
        self._yes = Counter((event["about"], event["stage"]) for event in answered)
        self._ask: Ask | None = None
        self._about = ""

    @property
    def text(self) -> str:
        """The open question; empty when there is none."""
        return self._ask.question.text if self._ask else ""

    def ask(self, about: str, stage: int, text: str) -> None:
        """Ask in every channel."""
        question = Question(secrets.token_hex(16), stage, text)
        self._record.write("question", question=question.id, stage=stage, about=about, text=text)
        self._about = about
        self._ask = Ask(self._channels, question)
        run = self._record.evidence.id
        self._say(f"{text} `sre canary approve {run}` or `sre canary reject {run}` answers")

    def heard(self) -> Answer | None:
        """The answer to the open question, once; None while there is no answer."""
        answer = self._ask.answer() if self._ask else None
        if self._ask is None or answer is None:
            return None
        question, self._ask = self._ask.question, None
        self._record.write("answer", question=question.id, stage=question.stage, about=self._about, yes=answer.yes,
                           who=answer.who, how=answer.how)  # fmt: skip
        if answer.yes:
            self._yes[self._about, question.stage] += 1
        return answer

    def withdraw(self) -> None:
        """Close the open question without an answer."""
        if self._ask is not None:
            self._record.write("withdrawn", question=self._ask.question.id)
            self._ask = None

    def agreed(self, about: str, stage: int) -> int:
        """How often people have said yes."""
        return self._yes[about, stage]
