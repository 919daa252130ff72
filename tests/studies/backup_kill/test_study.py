from __future__ import annotations

import pytest

from tests.studies.backup_kill.moments import Seen
from tests.studies.backup_kill.study import counted_wrongly

BEFORE = Seen("", {}, {"store": frozenset({"a"})}, {"store": frozenset({"a"})})
HALF = Seen("", {}, {"store": frozenset({"a", "b"})}, {"store": frozenset({"a"})})
WHOLE = Seen("", {}, {"store": frozenset({"a", "b"})}, {"store": frozenset({"a", "b"})})


@pytest.mark.parametrize(
    ("after", "shown", "wrong"),
    [
        (HALF, {"a": "good", "b": "unverified"}, []),
        (HALF, {"a": "good", "b": "damaged"}, []),
        (HALF, {"a": "good"}, []),
        (HALF, {"a": "good", "b": "good"}, ["store: `sre backup list` shows b as good"]),
        (WHOLE, {"a": "good", "b": "good"}, []),
        (WHOLE, {"a": "good", "b": "unverified"}, ["store: `sre backup list` shows b as unverified"]),
        (WHOLE, {"b": "good"}, ["store: `sre backup list` shows a as not there"]),
    ],
)
def test_a_half_set_counts_nowhere_and_an_earlier_one_goes_on_to(after: Seen, shown: dict[str, str], wrong: list[str]) -> None:
    assert counted_wrongly({("store", name): state for name, state in shown.items()}, BEFORE, after) == wrong
