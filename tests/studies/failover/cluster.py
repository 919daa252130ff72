"""Carries one schedule out on a real cluster while writers write, and compares their ledger with what the database holds then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from sre.errors import SreError, StepFailed
from sre.faults.database import named
from sre.faults.ledger import ACTIONS
from sre.judges.history import Fate, check, service
from sre.load import ledger_file, writers
from sre.targets.base import DatabaseCluster
from sre.targets.local.target import LocalTarget
from tests.studies.failover.journal import LEAST_ACKED, Result
from tests.studies.failover.schedules import Fault, Schedule
from tests.studies.failover.study import result

WRITERS = 4
RATE = 40.0  # of each writer in strict mode: 2,000 rows in a quarter of a minute, and the cluster is not what is measured
AFTER_S = 5.0
HELD_S = 3.0
# A lost quorum is felt when the lease has ended and the members were asked; everything else at once.
BITES_S, QUORUM_BITES_S = 6.0, 26.0
ROWS_WITHIN_S = 60.0

_Repair = Callable[[DatabaseCluster, str], None]
# A fault of a schedule -> the toolkit's, and what takes it back on each member.
_KINDS: dict[str, tuple[str, _Repair | None]] = {
    "sigkill": ("crash", None),
    "sigstop": ("freeze", lambda database, member: database.thaw(member)),
    "member-lost": ("lose", lambda database, member: database.bring_back(member)),
    "network-cut": ("cut", lambda database, _: database.mend()),
    "etcd-member": ("lose-store", lambda database, member: database.bring_back(member)),
    "etcd-quorum": ("lose-store", lambda database, member: database.bring_back(member)),
    "disk-full": ("refuse-writes", lambda database, member: database.allow_writes(member)),
    "replica-lag": ("hold-back", lambda database, member: database.catch_up(member)),
    "switchover": ("switch-over", None),
}


def execute(target: LocalTarget, planned: Schedule, folder: Path, rate: float | None) -> Result:
    """Run a schedule; the cluster is whole before and after.

    Args:
        target: with a database cluster.
        planned: its faults.
        folder: gets the ledger and the writers' log.
        rate: of each writer, per s; None for as fast as they can.

    Raises:
        SreError: the cluster was not whole, or did not become whole; the schedule has no result then.
    """
    ACTIONS["await-database"](target, {})
    layout, run = target.layout, f"study-{planned.seed}-{time.time_ns()}"
    dsn, passfile = layout.dsn("drills", "drills"), str(layout.secrets / "passfile")
    job = writers.Job(
        dsn=dsn, passfile=passfile, run=run, writers=WRITERS, rate=rate, seconds=600.0, seed=planned.seed,
        ledger=str(folder / f"{run}.jsonl"), parent=os.getpid(),
    )  # fmt: skip
    writing = writers.start(job, folder / run)
    try:
        struck, why = _carry_out(target, planned)
        ACTIONS["await-database"](target, {})
        time.sleep(AFTER_S)
        _await_acknowledged(Path(job.ledger))
    finally:
        writing.stop()
    attempts = ledger_file.read(Path(job.ledger))
    again = retry(
        stop=stop_after_delay(ROWS_WITHIN_S), wait=wait_fixed(1.0), reraise=True, retry=retry_if_exception_type(psycopg.Error)
    )
    checked = check(attempts, again(writers.rows)(dsn, passfile, run))
    bites = QUORUM_BITES_S if planned.faults[0].kind == "etcd-quorum" else BITES_S
    return result(planned, checked, service(attempts, fault=struck, bites=bites, held=HELD_S), why)


def _await_acknowledged(ledger: Path) -> None:
    """Let slow writers write as many rows as a schedule must have; the report says so of one that has fewer all the same."""
    deadline = time.monotonic() + ROWS_WITHIN_S
    while sum(one.fate is Fate.ACKED for one in ledger_file.read(ledger)) < LEAST_ACKED and time.monotonic() < deadline:
        time.sleep(1.0)


def _carry_out(target: LocalTarget, planned: Schedule) -> tuple[float, str]:
    """When the first fault was there, monotonic s, and why the schedule is none, empty when it was carried out."""
    began, struck, failed = time.monotonic(), None, list[str]()
    hit: dict[Fault, tuple[str, ...]] = {}
    moments = [(fault.at_s, "strike", fault) for fault in planned.faults]
    moments += [(fault.at_s + fault.seconds, "take back", fault) for fault in planned.faults if fault.seconds]
    for at, what, fault in sorted(moments, key=lambda moment: moment[0]):
        time.sleep(max(0.0, began + at - time.monotonic()))
        try:
            if what == "strike":
                hit[fault] = _strike(target, fault)
                struck = struck or time.monotonic()
            elif fault in hit:
                _take_back(target, fault, hit[fault])
        except StepFailed as error:
            # The second fault may find that the first one's victim has no process any more: then there is one fault.
            failed.append(f"{fault.kind} of {fault.victim}: {error}")
    return (struck or time.monotonic()), "" if struck else "; ".join(failed)


def _strike(target: LocalTarget, fault: Fault) -> tuple[str, ...]:
    kind, _ = _KINDS[fault.kind]
    one = named(target, kind, ",".join(_victims(target, fault)))
    one.inject()
    return one.members


def _take_back(target: LocalTarget, fault: Fault, names: tuple[str, ...]) -> None:
    again = retry(stop=stop_after_delay(60.0), wait=wait_fixed(0.5), reraise=True, retry=retry_if_exception_type(SreError))
    if repair := _KINDS[fault.kind][1]:
        for name in names:
            again(repair)(target.database, name)


def _victims(target: LocalTarget, fault: Fault) -> list[str]:
    names = [member.name for member in target.database.members()]
    if fault.kind == "switchover":
        return ["standby"]
    if fault.victim == "etcd":
        return names[:2]
    if fault.victim.startswith("etcd-"):
        return [names[int(fault.victim[-1]) - 1]]
    if fault.victim == "primary":
        return ["primary"]
    standbys = [member.name for member in target.database.members() if member.role != "primary"]
    return [standbys[int(fault.victim[-1]) - 1]]
