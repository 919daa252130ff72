from __future__ import annotations

from pathlib import Path

import pytest

from sre.canary.approval import Answer, Question
from sre.canary.questions import APPROVAL, DEADLINE, Questions
from sre.canary.record import Record
from sre.clock import SystemClock
from sre.evidence import bundle, journal


class Asked:
    """A channel whose answer a test sets."""

    def __init__(self) -> None:
        self.said: Answer | None = None
        self.question: Question | None = None

    def ask(self, question: Question) -> None:
        self.question = question

    def answer(self) -> Answer | None:
        return self.said


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(bundle.create(tmp_path, "canary", SystemClock()))


def events(record: Record) -> list[str]:
    return [event["event"] for event in journal.read(record.evidence.journal.path)]


def test_questions_and_answers_are_on_record(record: Record) -> None:
    channel = Asked()
    said: list[str] = []
    questions = Questions(record, [channel], said.append, None)
    assert (questions.text, questions.heard()) == ("", None)
    questions.ask(APPROVAL, 1, "go on?")
    assert channel.question is not None
    assert (questions.text, channel.question.text, channel.question.stage) == ("go on?", "go on?", 1)
    assert events(record) == ["question"]
    assert record.evidence.id in said[0]
    assert questions.heard() is None
    channel.said = Answer(yes=True, who="a", how="b")
    assert questions.heard() == channel.said
    assert (questions.text, questions.heard()) == ("", None)
    assert [questions.agreed(about, stage) for about, stage in ((APPROVAL, 1), (DEADLINE, 1), (APPROVAL, 2))] == [1, 0, 0]
    assert events(record) == ["question", "answer"]


def test_every_question_has_an_id_of_its_own(record: Record) -> None:
    channel = Asked()
    questions = Questions(record, [channel], lambda _: None, None)
    ids = set()
    for _ in range(3):
        questions.ask(DEADLINE, 0, "go on?")
        assert channel.question is not None
        ids.add(channel.question.id)
    assert len(ids) == 3
    assert all(len(name) == 32 for name in ids)


def test_a_no_agrees_to_nothing(record: Record) -> None:
    channel = Asked()
    channel.said = Answer(yes=False, who="a", how="b")
    questions = Questions(record, [channel], lambda _: None, None)
    questions.ask(APPROVAL, 1, "go on?")
    assert questions.heard() == channel.said
    assert questions.agreed(APPROVAL, 1) == 0


def test_a_question_that_is_withdrawn_has_no_answer(record: Record) -> None:
    channel = Asked()
    channel.said = Answer(yes=True, who="a", how="b")
    questions = Questions(record, [channel], lambda _: None, None)
    questions.withdraw()
    questions.ask(APPROVAL, 1, "go on?")
    questions.withdraw()
    assert questions.heard() is None
    assert events(record) == ["question", "withdrawn"]
