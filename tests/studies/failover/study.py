"""Runs what is missing from a study's journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sre.judges.history import HistoryCheck, Service
from tests.studies.failover.journal import Result, StudyJournal
from tests.studies.failover.schedules import Schedule, schedule

Execute = Callable[[Schedule], Result]
Plan = Callable[[int], Schedule]


def run(
    journal: StudyJournal, seeds: Iterable[int], execute: Execute, say: Callable[[str], None], plan: Plan = schedule
) -> list[Result]:
    """Run the schedules of all seeds that have no result yet; each result is on disk before the next schedule begins.

    Args:
        journal: of the study.
        seeds: of all its schedules.
        execute: runs one against the cluster. What it raises ends the study; run again, it goes on with the same schedule.
        say: gets one line per schedule.
        plan: what a seed stands for.

    Returns:
        The results of these seeds, in their order, those from before included.
    """
    wanted = list(seeds)
    done = journal.results()
    for seed in (seed for seed in wanted if seed not in done):
        planned = plan(seed)
        faults = ", ".join(f"{fault.at_s:.1f} s {fault.kind} {fault.victim} {fault.seconds:.1f} s" for fault in planned.faults)
        say(f"schedule {seed}: {faults}")
        done[seed] = execute(planned)
        journal.add(done[seed])
        first = done[seed].first_write
        again = f"first write after {first:.1f} s" if first is not None else "no write again"
        say(f"schedule {seed}: {done[seed].acked:,} acknowledged, {done[seed].differences} differences, {again} {done[seed].why}")
    return [done[seed] for seed in wanted]


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
