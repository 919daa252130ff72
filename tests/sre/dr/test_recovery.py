from __future__ import annotations

from pathlib import Path

import pytest

from sre.clock import Clock
from sre.dr.recovery import IMMEDIATE, LATEST, Target, _stop, parse, wait_for_target
from sre.errors import StepFailed, UsageError

AT = 1_800_000_000.25
BEGIN = "2027-01-15 08:00:00.000 UTC [7] LOG:  starting point-in-time recovery to something\n"
NOWHERE = "host=/nowhere dbname=postgres"


class Ticking(Clock):
    """Time goes on only while somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def log(line: str) -> str:
    return f"{BEGIN}2027-01-15 08:00:01.000 UTC [7] LOG:  {line}\n2027-01-15 08:00:01.1 UTC [7] LOG:  redo done at 0/3000060\n"


def test_a_moment_is_exact_to_the_microsecond_and_names_its_zone() -> None:
    assert Target.time(AT) == Target("time", "2027-01-15 08:00:00.250000+00:00", AT)
    assert (str(Target.xid(7)), str(LATEST)) == ("xid 7", "latest")


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (Target.xid(740), "recovery stopping after commit of transaction 740, time 2027-01-15 08:00:00.2+00"),
        (Target.time(AT), "recovery stopping before commit of transaction 741, time 2027-01-15 08:00:00.3+00"),
        (Target.time(AT), "recovery stopping before abort of transaction 741, time 2027-01-15 08:00:00.3+00"),
        (Target.name("noon"), 'recovery stopping at restore point "noon", time 2027-01-15 08:00:00.2+00'),
        (Target.lsn("0/3000060"), 'recovery stopping after WAL location (LSN) "0/3000060"'),
        (Target.lsn("0/FFFFFFF8"), 'recovery stopping after WAL location (LSN) "1/28"'),
        (IMMEDIATE, "recovery stopping after reaching consistency"),
    ],
)
def test_the_stop_at_the_target_is_the_proof(target: Target, line: str) -> None:
    assert _stop(log(line), target, AT - 1) == line


def test_the_end_of_the_wal_is_the_latest_moment() -> None:
    assert _stop(log("restored log file"), LATEST, None) == "redo done at 0/3000060"
    assert _stop(f"{BEGIN}2027 LOG:  redo is not required\n", LATEST, None) == "redo is not required"


@pytest.mark.parametrize(
    ("target", "line", "last"),
    [
        (Target.xid(740), "recovery stopping after commit of transaction 741, time 2027-01-15 08:00:00.2+00", AT),
        (Target.xid(740), "recovery stopping before commit of transaction 740, time 2027-01-15 08:00:00.2+00", AT),
        (Target.xid(740), "recovery stopping after abort of transaction 740, time 2027-01-15 08:00:00.2+00", AT),
        (Target.time(AT), "recovery stopping before commit of transaction 741, time 2027-01-15 08:00:00.3+00", AT + 0.01),
        (Target.time(AT), "recovery stopping after commit of transaction 741, time 2027-01-15 08:00:00.3+00", AT),
        (Target.name("noon"), 'recovery stopping at restore point "noon-2", time 2027-01-15 08:00:00.2+00', AT),
        (Target.lsn("0/3000060"), 'recovery stopping after WAL location (LSN) "0/3000028"', AT),
        (Target.lsn("0/3000060"), 'recovery stopping before WAL location (LSN) "0/3000060"', AT),
        (IMMEDIATE, "recovery stopping after commit of transaction 740, time 2027-01-15 08:00:00.2+00", AT),
    ],
)
def test_a_stop_elsewhere_is_told(target: Target, line: str, last: float) -> None:
    with pytest.raises(StepFailed, match=r"ended elsewhere: recovery stopping .*; last commit 2027-01-15T08:00:00\.2"):
        _stop(log(line), target, last)


def test_a_server_that_is_up_proves_nothing() -> None:
    with pytest.raises(StepFailed, match="its log names no stop"):
        _stop(log("database system is ready to accept connections"), Target.xid(740), AT)
    with pytest.raises(StepFailed, match="the log tells of no recovery"):
        _stop("LOG:  database system is ready to accept connections\n", LATEST, AT)
    with pytest.raises(StepFailed, match="the log tells recovery stopping after reaching consistency"):
        _stop(log("recovery stopping after reaching consistency"), LATEST, AT)


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("fatal", "told"),
    [
        (
            "recovery ended before configured recovery target was reached",
            r"the archived WAL ends before xid 740: choose an earlier",
        ),
        (
            "requested recovery stop point is before consistent recovery point",
            r"xid 740 is older than the backup.*ended before it",
        ),
        ("could not open file", "its log says more"),
        ('could not load server certificate file "tls.crt"', "its log says more"),
    ],
)
def test_a_target_out_of_reach_is_told_with_what_to_do(diary: Path, fatal: str, told: str) -> None:
    diary.write_text(f"{BEGIN}2027 [7] FATAL:  {fatal}\n2027 LOG:  startup process (PID 7) exited with exit code 1\n")
    with pytest.raises(StepFailed, match=f"recovery to xid 740 failed: {fatal}; {told}"):
        wait_for_target(NOWHERE, diary, diary, Target.xid(740), clock=Ticking())


@pytest.mark.parametrize(
    "text", ["", None, f"2027 [7] FATAL:  of an earlier start\n{BEGIN}2027 [9] FATAL:  the database system is starting up\n"]
)
def test_a_server_that_does_not_come_is_given_up(diary: Path, text: str | None) -> None:
    if text is not None:
        diary.write_text(text)
    clock = Ticking()
    with pytest.raises(StepFailed, match=r"recovery to latest did not end within 3 s; last seen: .*/nowhere"):
        wait_for_target(NOWHERE, diary, diary, LATEST, within_s=3, clock=clock)
    assert 3 <= clock.seconds < 4


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("latest", LATEST),
        ("time:2026-11-24T12:00:00Z", Target.time(1795521600.0)),
        ("time:2026-11-24T13:00:00+01:00", Target.time(1795521600.0)),
        ("xid:731", Target.xid(731)),
        ("name:set-1", Target.name("set-1")),
        ("lsn:0/3000060", Target.lsn("0/3000060")),
    ],
)
def test_a_moment_as_people_write_it(text: str, target: Target) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text", ["", "time:", "time:2026-11-24T12:00:00", "time:noon", "xid:", "xid:-1", "name:", "lsn:3000060", "tomorrow"]
)
def test_what_is_no_moment_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(UsageError, match="is no moment to restore to; write latest, time:"):
        parse(text)
