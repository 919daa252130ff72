"""Which pod is which replica."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.errors import TargetUnavailable
from sre.readings import Replica
from sre.targets.kubernetes.slots import Slot, assign, only, remembered
from tests.sre.targets.kubernetes.objects import ending, pod


def _pods(slots: tuple[Slot, ...]) -> dict[str, str]:
    return {slot.name: slot.pod for slot in slots}


def test_the_oldest_pod_is_the_first_replica_and_names_break_ties() -> None:
    pods = [pod("c", born="2026-01-01T00:00:02Z"), pod("b", born="2026-01-01T00:00:01Z"), pod("a", born="2026-01-01T00:00:02Z")]
    assert _pods(assign({}, pods, 3)) == {"serving-1": "b", "serving-2": "a", "serving-3": "c"}


def test_a_new_pod_takes_the_place_of_the_one_that_is_gone() -> None:
    before = {"serving-1": "a", "serving-2": "b", "serving-3": "c"}
    assert _pods(assign(before, [pod("a"), pod("c"), pod("d")], 3)) == {"serving-1": "a", "serving-2": "d", "serving-3": "c"}


def test_a_pod_that_ends_or_has_ended_is_no_replica() -> None:
    before = {"serving-1": "a", "serving-2": "b", "serving-3": "c"}
    slots = assign(before, [ending(pod("a")), pod("b", phase="Failed"), pod("c")], 3)
    assert _pods(slots) == {"serving-1": "", "serving-2": "", "serving-3": "c"}
    assert slots[0].replica(ready=False) == Replica("serving-1", "", False, 0)


def test_more_pods_than_wanted_are_replicas_too_and_fewer_are_not_filled_up() -> None:
    assert list(_pods(assign({}, [pod("a"), pod("b")], 1))) == ["serving-1", "serving-2"]
    assert list(_pods(assign({}, [], 2))) == ["serving-1", "serving-2"]
    before = {"serving-1": "a", "serving-9": "b", "serving-10": "c"}
    assert list(_pods(assign(before, [pod("b"), pod("c")], 1))) == ["serving-1", "serving-9", "serving-10"]


def test_after_a_rolling_update_the_names_are_those_from_before() -> None:
    before = {"serving-1": "a", "serving-2": "b", "serving-3": "c"}
    during = assign(before, [pod("a"), pod("b"), pod("c"), pod("d")], 3)
    assert _pods(during) == {**before, "serving-4": "d"}
    assert _pods(assign(_pods(during), [pod("a"), pod("c"), pod("d")], 3)) == {**before, "serving-2": "d"}


def test_of_one_replica_at_most_the_newest_pod_is_it() -> None:
    assert only("canary-1", []) == Slot("canary-1", "", "", 0)
    pods = [pod("b", born="2026-01-01T00:00:02Z"), pod("a", born="2026-01-01T00:00:01Z"), ending(pod("c"))]
    assert only("canary-1", pods) == Slot("canary-1", "b", "b00000000000@b", 0)


def test_the_identity_is_the_container_that_runs() -> None:
    running, stopped = assign({}, [pod("a", restarts=2), pod("b", runs=False, restarts=3)], 2)
    assert running == Slot("serving-1", "a", "a00000000000@a", 2)
    assert stopped == Slot("serving-2", "b", "", 3)
    unseen = {"metadata": pod("a")["metadata"], "status": {"phase": "Pending"}}
    assert assign({}, [unseen], 1) == (Slot("serving-1", "a", "", 0),)


@given(st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=6), max_size=8), st.integers(0, 4))
def test_a_pod_keeps_its_name_while_it_lives_and_has_one_of_those_wanted(history: list[set[str]], wanted: int) -> None:
    lasting = {f"serving-{number}" for number in range(1, wanted + 1)}
    before: dict[str, str] = {}
    for there in history:
        after = {slot.name: slot.pod for slot in assign(before, [pod(name) for name in there], wanted) if slot.pod}
        assert set(after.values()) == there
        assert {name: one for name, one in before.items() if one in there and name in lasting}.items() <= after.items()
        assert len(there) > wanted or after.keys() <= lasting
        before = after


def test_the_file_remembers_between_looks(tmp_path: Path) -> None:
    file = tmp_path / "slots.json"
    first = remembered(file, [pod("a"), pod("b")], 2)
    assert remembered(file, [pod("a"), pod("b")], 2) == first
    assert _pods(remembered(file, [pod("b"), pod("0", born="2025-01-01T00:00:00Z")], 2)) == {"serving-1": "0", "serving-2": "b"}
    assert _pods(remembered(file, [], 1)) == {"serving-1": ""}


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_memory_is_an_error_and_not_another_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "slots.json").write_text(text)
    with pytest.raises(TargetUnavailable, match=r"slots\.json is damaged .*; delete it"):
        remembered(tmp_path / "slots.json", [pod("a")], 1)
