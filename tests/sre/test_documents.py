from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from sre import documents
from sre.errors import UsageError


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["a", "b"]
    size: int = 1


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    parts: list[Part]


GOOD = "parts:\n  - kind: a\n  - kind: b\n    size: 2\n"


def test_a_good_document_is_its_model() -> None:
    assert documents.parse(GOOD, "x.yaml", Whole) == Whole(parts=[Part(kind="a"), Part(kind="b", size=2)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("size: 2", "size: two"), r"x\.yaml:4: parts\.1\.size is 'two': Input should be a valid integer"),
        (GOOD.replace("kind: b", "kind: c"), r"x\.yaml:3: parts\.1\.kind is 'c': Input should be 'a' or 'b'"),
        (GOOD + "more: 1\n", r"x\.yaml:5: more is 1: Extra inputs are not permitted"),
        (GOOD + "    size: 3\n", r"x\.yaml:5: 'size' is set a second time; delete one"),
        (GOOD + "---\n" + GOOD, r"x\.yaml:6: a second document begins"),
        ("parts: [", r"x\.yaml:1 is not YAML"),
        ("a: 2026-13-45", "x.yaml is not YAML"),
        ("", "x.yaml is empty"),
        ("---\n", "x.yaml is empty"),
        ("- 1", "the file is .1.: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        documents.parse(text, "x.yaml", Whole)


def test_documents_that_are_empty_do_not_count() -> None:
    found = documents.split("---\na: 1\n---\n---\nb: 2\n", "x.yaml")
    assert [value for _, value in found] == [{"a": 1}, {"b": 2}]
    assert [documents.line(root, ()) for root, _ in found] == [2, 5]
