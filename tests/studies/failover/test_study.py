from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import pytest

from sre.judges.history import Attempt, Fate, Key, Row, check, service
from tests.studies.failover.journal import Result, StudyJournal
from tests.studies.failover.schedules import Fault, Schedule, schedule
from tests.studies.failover.study import result, run


def test_a_study_goes_on_where_it_stopped(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    ran: list[Schedule] = []
    said: list[str] = []

    def execute(planned: Schedule) -> Result:
        ran.append(planned)
        if len(ran) == 3:
            raise RuntimeError("the power failed")
        return make_result(planned.seed, first_write=None)

    with pytest.raises(RuntimeError):
        run(StudyJournal(tmp_path / "study.jsonl", {}), range(5), [execute], said.append)
    results = run(StudyJournal(tmp_path / "study.jsonl", {}), range(5), [execute], said.append)
    assert [one.seed for one in ran] == [0, 1, 2, 2, 3, 4]
    assert ran[0] == schedule(0)
    assert [result.seed for result in results] == [0, 1, 2, 3, 4]
    assert said[1].startswith("schedule 0: 2,500 acknowledged, 0 differences, no write again")
    assert run(StudyJournal(tmp_path / "study.jsonl", {}), range(2), [execute], said.append) == results[:2]
    assert len(ran) == 6


def test_clusters_work_side_by_side_and_one_that_fails_lets_the_others_finish(
    tmp_path: Path, make_result: Callable[..., Result]
) -> None:
    both = Barrier(2)

    def healthy(planned: Schedule) -> Result:
        both.wait(10.0)
        return make_result(planned.seed)

    def failing(planned: Schedule) -> Result:
        both.wait(10.0)
        raise RuntimeError(f"schedule {planned.seed} met no power")

    with pytest.raises(RuntimeError, match="met no power"):
        run(StudyJournal(tmp_path / "study.jsonl", {}), range(4), [healthy, failing], lambda _: None)
    assert len(StudyJournal(tmp_path / "study.jsonl", {}).results()) == 1
    results = run(StudyJournal(tmp_path / "study.jsonl", {}), range(4), [lambda one: make_result(one.seed)] * 3, lambda _: None)
    assert [result.seed for result in results] == [0, 1, 2, 3]


def test_a_result_tells_what_was_lost_and_how_long_it_took() -> None:
    fates = [Fate.ACKED, Fate.ACKED, Fate.FAILED, Fate.UNKNOWN, Fate.ACKED]
    attempts = [
        Attempt(key=Key("s", 0, at), payload="00", sent=float(at), sent_wall=0.0, done=at + 0.1, fate=fate)
        for at, fate in enumerate(fates)
    ]
    rows = [Row(Key("s", 0, at), "00") for at in (0, 3, 4)]
    planned = Schedule(seed=5, faults=(Fault(at_s=1.5, kind="sigkill", victim="primary", seconds=0.0),))
    made = result(planned, check(attempts, rows), service(attempts, fault=1.5, bites=5.0, held=0.0))
    assert (made.seed, made.kinds, made.primary_killed) == (5, ("sigkill",), True)
    assert (made.acked, made.attempts, made.lost, made.differences) == (3, 5, 1, 1)
    assert (made.unknown_found, made.unknown_absent, made.invented, made.doubled, made.altered) == (1, 0, 0, 0, 0)
    assert made.first_write == pytest.approx(2.6)
    other = Schedule(seed=5, faults=(Fault(at_s=1.5, kind="sigkill", victim="standby-1", seconds=0.0),))
    assert not result(other, check(attempts, rows), service(attempts, fault=1.5, bites=5.0, held=0.0)).primary_killed
