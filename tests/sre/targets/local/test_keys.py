"""The file, and replicas that are away; what real replicas answer is shown in tests/contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.errors import StepFailed
from sre.targets.local.keys import LocalKeys
from sre.targets.local.layout import Layout


@pytest.fixture
def layout(make_layout: Callable[..., Layout]) -> Layout:
    made = make_layout()
    made.config.mkdir(parents=True, exist_ok=True)
    (made.config / "api-keys.json").write_text(json.dumps({"keys": [{"name": "drills", "sha256": "0" * 64}]}), encoding="utf-8")
    return made


def test_a_holder_comes_and_goes_and_the_file_is_another_each_time(layout: Layout) -> None:
    keys, file = LocalKeys(layout), layout.config / "api-keys.json"
    seen = {_signature(file)}
    for granted in (["a"], ["a", "b"], ["b"], []):
        keys.grant("mine", granted)
        assert keys.held("mine") == len(granted)
        assert keys.held("drills") == 1
        seen.add(_signature(file))
    assert len(seen) == 5
    assert [path.name for path in layout.config.glob("api-keys*")] == ["api-keys.json"]


def test_a_damaged_file_stays_as_it_is(layout: Layout) -> None:
    file = layout.config / "api-keys.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(StepFailed):
        LocalKeys(layout).grant("mine", ["a"])
    assert file.read_text(encoding="utf-8") == "{"


def test_who_does_not_answer_has_said_nothing(layout: Layout) -> None:
    answers = LocalKeys(layout).ask("a")
    assert list(answers) == list(layout.replicas)
    assert set(answers.values()) <= {0}


def _signature(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
