from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.studies.failover.schedules import FIRST_START_SECONDS, KINDS, LAST_START_SECONDS, schedule


@given(st.integers(0, 2**31))
def test_a_schedule_is_its_seed(seed: int) -> None:
    made = schedule(seed)
    assert made == schedule(seed)
    assert 1 <= len(made.faults) <= 2
    assert list(made.faults) == sorted(made.faults)
    for fault in made.faults:
        kind = KINDS[fault.kind]
        assert fault.victim in kind.victims
        assert kind.seconds[0] <= fault.seconds <= kind.seconds[1]
        assert FIRST_START_SECONDS <= fault.at_s <= LAST_START_SECONDS
        assert made.ends_s >= fault.at_s + fault.seconds


def test_300_schedules_differ_and_hold_every_fault_often() -> None:
    made = [schedule(seed) for seed in range(300)]
    assert len({one.faults for one in made}) == 300
    kinds = Counter(fault.kind for one in made for fault in one.faults)
    assert kinds.keys() == KINDS.keys()
    assert min(kinds.values()) >= 33
    assert 100 < sum(len(one.faults) == 2 for one in made) < 200
    victims = {(fault.kind, fault.victim) for one in made for fault in one.faults}
    assert victims == {(name, victim) for name, kind in KINDS.items() for victim in kind.victims}
