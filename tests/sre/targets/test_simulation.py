from __future__ import annotations

import math

import numpy as np
import pytest

from sre.targets.simulation import (
    INGRESS_PATIENCE_S,
    REFUSED_S,
    Process,
    SimulatedReplica,
    Traffic,
    VirtualClock,
    answers,
    increase,
    outages,
    scraped,
)


def replica(*processes: Process, name: str = "serving-1") -> SimulatedReplica:
    return SimulatedReplica(name, list(processes))


def at(*times: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(times)


def traffic(*sent: float, service: float = 0.1, failing: bool = False) -> Traffic:
    count = len(sent)
    return Traffic(at(*sent), at(*sent), np.full(count, service), np.full(count, failing))


def test_time_passes_only_by_sleeping_and_never_backwards() -> None:
    clock = VirtualClock()
    now, wall = clock.now(), clock.wall()
    assert clock.now() == now
    clock.sleep(2.5)
    clock.sleep(-1.0)
    assert (clock.now() - now, clock.wall() - wall) == (2.5, 2.5)


def test_a_process_answers_between_ready_and_its_end_except_while_frozen() -> None:
    process = Process(7, born=0.0, ready=1.0, died=10.0)
    process.freeze(3.0)
    process.thaw(4.0)
    process.freeze(6.0)
    moments = at(0.5, 1.0, 2.9, 3.0, 3.9, 4.0, 6.0, 9.0, 10.0)
    assert process.awake(moments).tolist() == [False, True, True, False, False, True, False, False, False]


def test_a_second_freeze_begins_where_the_first_ends_and_a_second_thaw_does_nothing() -> None:
    process = Process(7, born=0.0, ready=0.0)
    process.freeze(1.0)
    process.freeze(2.0)
    process.thaw(3.0)
    process.thaw(5.0)
    assert process.frozen == [(1.0, 2.0), (2.0, 3.0)]


def test_a_replica_between_two_processes_has_no_identity() -> None:
    both = replica(Process(1, born=0.0, ready=0.0, died=5.0), Process(2, born=6.0, ready=8.0))
    assert [both.identity(now) for now in (1.0, 5.5, 7.0)] == ["1@0.000", "", "2@6.000"]
    assert [both.ready(now) for now in (1.0, 5.5, 7.0, 8.0)] == [True, False, False, True]


def test_a_request_is_answered_by_the_replica_whose_turn_it_is() -> None:
    both = [replica(Process(1, 0.0, 0.0)), replica(Process(2, 0.0, 0.0))]
    seen = answers(both, traffic(1.0, 2.0, 3.0))
    assert seen.by.tolist() == [0, 1, 0]
    assert seen.done.tolist() == pytest.approx([1.1, 2.1, 3.1])
    assert seen.status.tolist() == [200, 200, 200]


@pytest.mark.parametrize(
    ("first", "waited"),
    [
        (Process(1, 0.0, 0.0, died=0.5), REFUSED_S + 0.1),
        (Process(1, 0.0, ready=5.0), REFUSED_S + 0.1),
        (Process(1, 0.0, 0.0, died=1.05), 0.05 + 0.1),
        (Process(1, 0.0, 0.0, frozen=[(0.5, math.inf)]), INGRESS_PATIENCE_S + 0.1),
        (Process(1, 0.0, 0.0, frozen=[(1.05, math.inf)]), INGRESS_PATIENCE_S + 0.1),
    ],
    ids=["gone", "not ready yet", "killed while answering", "frozen", "frozen while answering"],
)
def test_the_ingress_asks_another_replica(first: Process, waited: float) -> None:
    seen = answers([replica(first), replica(Process(2, 0.0, 0.0))], traffic(1.0))
    assert seen.by.tolist() == [1]
    assert seen.status.tolist() == [200]
    assert seen.done[0] - 1.0 == pytest.approx(waited)


def test_a_replica_that_thaws_in_time_answers_late() -> None:
    seen = answers([replica(Process(1, 0.0, 0.0, frozen=[(0.5, 2.0)]))], traffic(1.0))
    assert (seen.by.tolist(), seen.done.tolist()) == ([0], pytest.approx([2.1]))


def test_when_no_replica_answers_the_ingress_does() -> None:
    gone = [replica(Process(1, 0.0, 0.0, died=0.5)), replica(Process(2, 0.0, 0.0, died=0.5))]
    seen = answers(gone, traffic(1.0))
    assert (seen.by.tolist(), seen.status.tolist()) == ([-1], [502])
    assert seen.done[0] == pytest.approx(1.0 + 2 * REFUSED_S)
    assert answers([], traffic(1.0)).status.tolist() == [502]


def test_an_arm_answers_what_is_for_it_and_the_replicas_what_it_leaves() -> None:
    stable, dead, well = (replica(Process(number, 0.0, 0.0, died=died)) for number, died in ((1, 9.0), (2, 0.5), (3, 9.0)))
    seen = answers([stable], traffic(1.0, 2.0, 3.0), [dead, well], np.array([0, 1, -1]))
    assert seen.by.tolist() == [0, 2, 0]
    assert seen.done.tolist() == pytest.approx([1.1 + REFUSED_S, 2.1, 3.1])


def test_a_failing_answer_is_a_500_and_has_a_replica() -> None:
    seen = answers([replica(Process(1, 0.0, 0.0))], traffic(1.0, failing=True))
    assert (seen.by.tolist(), seen.status.tolist()) == ([0], [500])


def test_outages_are_the_spans_without_some_replica() -> None:
    frozen = replica(Process(1, 0.0, 0.0, frozen=[(3.0, 6.0)]))
    replaced = replica(Process(2, 0.0, 0.0, died=5.0), Process(3, born=6.0, ready=8.0))
    lost = replica(Process(4, 0.0, 0.0, died=20.0))
    assert outages([frozen, replaced, lost]) == [(3.0, 8.0), (20.0, math.inf)]
    assert outages([replica(Process(1, 0.0, 0.0))]) == []
    assert outages([frozen, replaced, lost], 2) == [(5.0, 6.0)]


def test_a_counter_begins_again_with_each_process_and_is_not_seen_while_frozen() -> None:
    both = replica(Process(1, 0.0, 0.0, died=5.0, frozen=[(1.5, 2.5)]), Process(2, born=6.0, ready=7.0))
    seen_at, counters = scraped(both, at(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0), at(0.5, 2.7, 4.5, 7.5))
    assert seen_at.tolist() == [1.0, 3.0, 4.0, 7.0, 8.0]
    assert counters.tolist() == [1, 2, 2, 0, 1]
    # The answer at 4.5 was never scraped: it is lost.
    assert increase(counters) == (2.0, 1)


def test_counters_that_only_grow_have_no_reset() -> None:
    assert increase(np.array([3, 3, 7])) == (4.0, 0)
    assert increase(np.array([3])) == (0.0, 0)
