from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.errors import EvidenceDamaged
from sre.judges.history import (
    Attempt,
    Fate,
    Key,
    Row,
    Service,
    check,
    first_write,
    full_service,
    no_acknowledged_loss,
    service,
)
from sre.promises import promise
from sre.verdict import Outcome

LOSS = replace(promise("restore-content"), least=10)  # any bound of one, as a count
RECOVERY = promise("pod-recovery")
History = tuple[list[Attempt], list[Row]]


def attempt(key: Key, fate: Fate = Fate.ACKED, sent: float = 1.0, done: float | None = 1.01) -> Attempt:
    return Attempt(
        key=key, payload=f"{key.writer:02x}{key.seq:06x}", sent=sent, sent_wall=sent, done=done, done_wall=done, fate=fate
    )


KEYS = st.builds(Key, st.sampled_from(["a", "b"]), st.integers(0, 3), st.integers(0, 50))


@st.composite
def histories(draw: st.DrawFn, least: int = 0) -> History:
    """What a database without a fault leaves: every acknowledged row, no failed one, and some of the unknown."""
    keys = draw(st.lists(KEYS, unique=True, min_size=least, max_size=60))
    fates = {key: draw(st.sampled_from(Fate)) for key in keys}
    attempts = [attempt(key, fate) for key, fate in fates.items()]
    attempts += [attempt(Key("c", 0, number)) for number in range(least)]
    there = [one for one in attempts if one.fate is Fate.ACKED or (one.fate is Fate.UNKNOWN and draw(st.booleans()))]
    return attempts, draw(st.permutations([Row(one.key, one.payload) for one in there]))


@given(histories())
def test_a_faultless_history_has_no_difference(history: History) -> None:
    attempts, rows = history
    found = check(attempts, rows)
    assert found.differences == 0
    assert found.attempts == len(attempts) == found.acked + found.failed + found.unknown_found + found.unknown_absent
    assert found.acked + found.unknown_found == len(rows)
    outcome = no_acknowledged_loss(LOSS, found).outcome
    assert outcome is (Outcome.KEPT if found.acked >= LOSS.least else Outcome.INCONCLUSIVE)


@given(histories(least=10), st.data())
def test_every_acknowledged_row_taken_away_is_lost(history: History, data: st.DataObject) -> None:
    attempts, rows = history
    acked = [one.key for one in attempts if one.fate is Fate.ACKED]
    gone = data.draw(st.sets(st.sampled_from(acked), min_size=1))
    found = check(attempts, [row for row in rows if row.key not in gone])
    assert found.lost == tuple(sorted(gone))
    assert found.differences == len(gone)
    judged = no_acknowledged_loss(LOSS, found)
    assert (judged.outcome, judged.measured) == (Outcome.BROKEN, len(gone))
    assert f"{len(gone)} rows lost, first {'/'.join(map(str, min(gone)))}" in judged.why


@given(histories(least=10), st.data())
def test_a_row_that_nobody_may_find_is_invented(history: History, data: st.DataObject) -> None:
    attempts, rows = history
    failed = [Row(one.key, one.payload) for one in attempts if one.fate is Fate.FAILED]
    stranger = Row(Key("a", 99, data.draw(st.integers(0, 50))), "00")
    added = data.draw(st.lists(st.sampled_from([*failed, stranger]), min_size=1, unique=True))
    found = check(attempts, [*rows, *added])
    assert found.invented == tuple(sorted(row.key for row in added))
    assert found.differences == len(added)
    assert no_acknowledged_loss(LOSS, found).outcome is Outcome.BROKEN


@given(histories(least=10), st.data())
def test_doubled_and_altered_rows_are_found(history: History, data: st.DataObject) -> None:
    attempts, rows = history
    twice = data.draw(st.sampled_from(rows))
    found = check(attempts, [*rows, twice])
    assert (found.doubled, found.differences) == ((twice.key,), 1)
    assert "1 rows doubled" in no_acknowledged_loss(LOSS, found).why
    found = check(attempts, [Row(row.key, "ffff") if row is twice else row for row in rows])
    assert (found.altered, found.differences) == ((twice.key,), 1)
    assert no_acknowledged_loss(LOSS, found).outcome is Outcome.BROKEN
    # Altered in one of two copies only, whichever comes first.
    for copies in ([twice, Row(twice.key, "ffff")], [Row(twice.key, "ffff"), twice]):
        found = check(attempts, [*(row for row in rows if row is not twice), *copies])
        assert (found.doubled, found.altered) == ((twice.key,), (twice.key,))


def test_two_attempts_of_one_key_are_damage() -> None:
    with pytest.raises(EvidenceDamaged, match="two attempts a/1/7"):
        check([attempt(Key("a", 1, 7)), attempt(Key("a", 1, 7), Fate.FAILED)], [])


@pytest.mark.parametrize("rows", [[], [Row(Key("a", 0, 0), "00000000")]])
@pytest.mark.parametrize("fates", [[], [Fate.FAILED], [Fate.UNKNOWN] * 20])
def test_without_an_acknowledgement_there_is_no_verdict(fates: list[Fate], rows: list[Row]) -> None:
    attempts = [attempt(Key("a", 0, seq), fate) for seq, fate in enumerate(fates)]
    judged = no_acknowledged_loss(LOSS, check(attempts, rows))
    assert (judged.outcome, judged.n) == (Outcome.INCONCLUSIVE, 0)


def test_too_few_acknowledgements_are_no_pass_and_a_loss_among_few_is_a_loss() -> None:
    few = [attempt(Key("a", 0, seq)) for seq in range(9)]
    rows = [Row(one.key, one.payload) for one in few]
    judged = no_acknowledged_loss(LOSS, check(few, rows))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.why.endswith("9 of at least 10 acknowledged writes")
    assert no_acknowledged_loss(LOSS, check(few, rows[1:])).outcome is Outcome.BROKEN


def stream(writer: int, times: Iterable[float], fate: Fate = Fate.ACKED, took: float = 0.01) -> list[Attempt]:
    """One writer's attempts, sent at `times`; numbers follow the time, so that several streams of one writer can be joined."""
    return [attempt(Key("a", writer, round(sent * 1000)), fate, sent, sent + took) for sent in times]


def steady(start: float, end: float, rate: float = 20.0, writers: Sequence[int] = (0, 1, 2, 3)) -> list[Attempt]:
    """`rate` attempts per second of each writer, acknowledged at once."""
    return [one for writer in writers for one in stream(writer, np.arange(start + writer * 0.01, end, 1 / rate).tolist())]


FAULT = 110.0


def look(*parts: list[Attempt], held: float = 5.0, bites: float = 60.0) -> Service:
    return service([one for part in parts for one in part], fault=FAULT, bites=bites, held=held)


def test_an_outage_is_measured_from_the_fault() -> None:
    failing = stream(0, np.arange(110.0, 118.0, 0.5).tolist(), Fate.FAILED)
    hanging = stream(1, [109.995], Fate.UNKNOWN, took=5.0)
    seen = look(steady(100, 110), failing, hanging, steady(118, 140))
    assert seen.steady_rate == pytest.approx(80.0, rel=0.01)
    assert seen.first_ack == seen.first_write == pytest.approx(8.01)
    assert seen.full_service == pytest.approx(8.01)
    assert seen.longest_gap == pytest.approx(8.03, abs=0.05)
    assert (seen.failed, seen.unknown) == (16, 1)
    assert seen.watched == pytest.approx(30.0, abs=0.1)


def test_writes_that_slip_through_before_the_fault_bites_are_no_recovery() -> None:
    seen = look(steady(100, 110.3), steady(125, 140))
    assert seen.first_ack == pytest.approx(0.01, abs=0.011)
    assert seen.first_write == pytest.approx(15.01)
    assert seen.full_service == pytest.approx(15.01)


def test_an_outage_long_after_the_fault_counts() -> None:
    # etcd's quorum is lost: the primary steps down when its lease runs out.
    seen = look(steady(100, 130), steady(137, 160))
    assert seen.first_write == pytest.approx(27.01)
    # Unless it is said that the fault bites at once or never.
    assert look(steady(100, 130), steady(137, 160), bites=15.0).first_write == pytest.approx(0.01, abs=0.011)


def test_a_write_that_hung_through_the_outage_is_no_new_service() -> None:
    hung = stream(9, [109.99], took=3.0)
    warm_up = stream(9, [101.0])
    seen = look(steady(100, 110), warm_up, hung, steady(118, 140))
    assert seen.first_ack == seen.first_write == pytest.approx(8.01)
    assert seen.full_service is None  # writer 9 never came back


def test_a_fault_that_nobody_noticed() -> None:
    seen = look(steady(100, 140))
    assert seen.first_write == seen.full_service == pytest.approx(0.01, abs=0.011)
    assert seen.longest_gap < 0.1


def test_full_service_waits_for_every_writer_and_for_the_rate() -> None:
    late = look(steady(100, 110), steady(118, 150, writers=(0, 1, 2)), steady(126, 150, writers=(3,)))
    # The first window with nine tenths of the rate has the last writer in three fifths of it.
    assert late.first_write == pytest.approx(8.01)
    assert late.full_service == pytest.approx(13.6, abs=0.7)
    slow = look(steady(100, 110), steady(118, 130, rate=10), steady(130, 150))
    assert slow.full_service == pytest.approx(19.1, abs=0.5)
    again = look(steady(100, 110), steady(118, 121), steady(123, 150))
    assert again.full_service == pytest.approx(13.01)


def test_full_service_must_last() -> None:
    cut_short = look(steady(100, 110), steady(118, 122))
    assert cut_short.first_write == pytest.approx(8.01)
    assert cut_short.full_service is None
    assert look(steady(100, 110), steady(118, 122), held=3.0).full_service == pytest.approx(8.01)


def test_writes_that_never_come_back_are_not_seen() -> None:
    seen = look(steady(100, 110), stream(0, np.arange(110.0, 150.0, 1.0).tolist(), Fate.FAILED))
    assert (seen.first_ack, seen.first_write, seen.full_service) == (None, None, None)
    assert first_write(RECOVERY, seen).outcome is Outcome.BROKEN
    slipped = look(steady(100, 110.5), stream(0, np.arange(111.0, 150.0, 1.0).tolist(), Fate.FAILED))
    assert slipped.first_ack == pytest.approx(0.01, abs=0.011)
    assert first_write(RECOVERY, slipped).outcome is full_service(RECOVERY, slipped).outcome is Outcome.BROKEN


def test_slow_writers_are_not_out() -> None:
    # Two acknowledgements a second apart are their steady state.
    seen = look(steady(100, 140, rate=0.8, writers=(0,)))
    assert seen.first_write == pytest.approx(1.26, abs=1.3)
    assert seen.longest_gap == pytest.approx(1.25)


def test_a_writer_killed_in_an_attempt_leaves_it_unknown() -> None:
    cut = [attempt(Key("a", 0, 10**9), Fate.UNKNOWN, 139.9, None)]
    assert look(steady(100, 110), steady(112, 139.9), cut).unknown == 1


def test_the_judges_of_time() -> None:
    kept = look(steady(100, 110), steady(118, 140))
    assert first_write(RECOVERY, kept).outcome is Outcome.KEPT
    assert first_write(RECOVERY, kept).why == "the first acknowledged write after 8.1 s"
    assert full_service(RECOVERY, kept).measured == kept.full_service
    late = look(steady(100, 110), steady(141, 160))
    assert first_write(RECOVERY, late).outcome is full_service(RECOVERY, late).outcome is Outcome.BROKEN
    assert first_write(RECOVERY, late).measured == pytest.approx(31.01)
    short = look(steady(100, 110), stream(0, [111.0], Fate.FAILED))
    assert first_write(RECOVERY, short).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("parts", [(), (steady(112, 140),), (stream(0, np.arange(100.0, 140.0).tolist(), Fate.FAILED),)])
def test_without_writes_before_the_fault_nothing_was_interrupted(parts: tuple[list[Attempt], ...]) -> None:
    for judge in (first_write, full_service):
        judged = judge(RECOVERY, look(*parts))
        assert judged.outcome is Outcome.INCONCLUSIVE
        assert "before the fault" in judged.why


@st.composite
def courses(draw: st.DrawFn) -> list[Attempt]:
    starts = draw(st.lists(st.floats(100, 150), max_size=60))
    return [
        replace(
            attempt(Key("a", draw(st.integers(0, 2)), seq), draw(st.sampled_from(Fate)), sent),
            done=draw(st.none() | st.floats(0, 12).map(sent.__add__)),
        )
        for seq, sent in enumerate(starts)
    ]


@given(courses(), st.floats(0, 60), st.floats(0.5, 10))
def test_whatever_happened_the_times_are_in_order(attempts: list[Attempt], bites: float, held: float) -> None:
    seen = service(attempts, fault=FAULT, bites=bites, held=held)
    assert seen == service(attempts[::-1], fault=FAULT, bites=bites, held=held)
    if seen.first_write is not None:
        assert seen.first_ack is not None
        assert 0 <= seen.first_ack <= seen.first_write <= seen.watched
    if seen.full_service is not None:
        assert seen.first_write is not None
        assert seen.first_write <= seen.full_service <= seen.watched - held
    assert math.isfinite(seen.steady_rate)
    assert first_write(RECOVERY, seen).outcome is not Outcome.KEPT or seen.first_write is not None
