"""Runs what is missing from a study's journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from sre.judges.history import HistoryCheck, Service
from tests.studies.failover.journal import Result, StudyJournal
from tests.studies.failover.schedules import Schedule, schedule

Execute = Callable[[Schedule], Result]
Plan = Callable[[int], Schedule]


def run(
    journal: StudyJournal, seeds: Iterable[int], executes: Sequence[Execute], say: Callable[[str], None], plan: Plan = schedule
) -> list[Result]:
    """Run the schedules of all seeds that have no result yet; each result is on disk before its cluster takes the next schedule.

    Args:
        journal: of the study.
        seeds: of all its schedules.
        executes: one per cluster: runs a schedule against it. Clusters work side by side. What one raises ends the study when
            the others have finished theirs; run again, it goes on with the same schedule.
        say: gets a line when a schedule begins, and one when it ends.
        plan: what a seed stands for.

    Returns:
        The results of these seeds, in their order, those from before included.
    """
    wanted = list(seeds)
    done = journal.results()
    waiting = iter([seed for seed in wanted if seed not in done])
    running: dict[Future[Result], Execute] = {}
    broken: list[BaseException] = []
    with ThreadPoolExecutor(len(executes)) as pool:
        free = list(executes)
        while True:
            while free and not broken and (seed := next(waiting, None)) is not None:
                planned, execute = plan(seed), free.pop()
                say(f"schedule {seed}: {_faults(planned)}")
                running[pool.submit(execute, planned)] = execute
            if not running:
                break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                free.append(running.pop(ended))
                if error := ended.exception():
                    broken.append(error)
                    continue
                one = ended.result()
                journal.add(one)
                done[one.seed] = one
                say(f"schedule {one.seed}: {_outcome(one)}")
    if broken:
        raise broken[0]
    return [done[seed] for seed in wanted]


def _faults(planned: Schedule) -> str:
    return ", ".join(f"{fault.at_s:.1f} s {fault.kind} {fault.victim} {fault.seconds:.1f} s" for fault in planned.faults)


def _outcome(one: Result) -> str:
    again = "no write again" if one.first_write is None else f"first write after {one.first_write:.1f} s"
    return f"{one.acked:,} acknowledged, {one.differences} differences, {again} {one.why}".rstrip()


def result(planned: Schedule, checked: HistoryCheck, noticed: Service, why: str = "") -> Result:
    """What a schedule came to.

    Args:
        planned: the schedule.
        checked: its attempts against the rows found after the last fault was taken back.
        noticed: what the writers noticed of the first fault.
        why: the schedule says nothing about loss, in words; empty when it does.
    """
    return Result(
        seed=planned.seed,
        kinds=tuple(fault.kind for fault in planned.faults),
        acked=checked.acked,
        attempts=checked.attempts,
        lost=len(checked.lost),
        invented=len(checked.invented),
        doubled=len(checked.doubled),
        altered=len(checked.altered),
        unknown_found=checked.unknown_found,
        unknown_absent=checked.unknown_absent,
        first_write=noticed.first_write,
        full_service=noticed.full_service,
        primary_killed=(planned.faults[0].kind, planned.faults[0].victim) == ("sigkill", "primary"),
        why=why,
    )
