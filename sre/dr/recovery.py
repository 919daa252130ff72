"""How far a restored PostgreSQL is to be rolled forward, and the proof that it was rolled exactly there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psycopg

from sre.clock import Clock, SystemClock, iso
from sre.dr.pgbackrest_records import SEGMENT_BYTES, number
from sre.errors import StepFailed, UsageError

Kind = Literal["latest", "immediate", "time", "xid", "name", "lsn"]
POLL_S = 0.2
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where recovery stops.

    Attributes:
        kind: `latest`: the end of the archived WAL; `immediate`: the first consistent moment of the backup; `time`: just before
            the first commit that is later; `xid`: after that transaction's commit; `name`: at a restore point of that name;
            `lsn`: after the record at that place.
        value: as PostgreSQL reads it, empty for the first two.
        at: seconds since the Unix epoch when it was, if known: a backup that ended before can then be chosen.
    """

    kind: Kind
    value: str = ""
    at: float | None = None

    @classmethod
    def time(cls, at: float) -> Target:
        """A moment, in seconds since the Unix epoch, exact to the microsecond."""
        return cls("time", datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="microseconds"), at)

    @classmethod
    def xid(cls, number: int, at: float | None = None) -> Target:
        """A transaction's commit."""
        return cls("xid", str(number), at)

    @classmethod
    def name(cls, marker: str, at: float | None = None) -> Target:
        """A restore point made by pg_create_restore_point."""
        return cls("name", marker, at)

    @classmethod
    def lsn(cls, place: str, at: float | None = None) -> Target:
        """A place in the WAL, as `0/3000060`."""
        return cls("lsn", place, at)

    def __str__(self) -> str:
        return f"{self.kind} {self.value}".strip()


LATEST, IMMEDIATE = Target("latest"), Target("immediate")


def parse(text: str) -> Target:
    """A target as people write it: `latest`, `time:2026-11-24T12:00:00Z`, `xid:731`, `name:MARKER`, `lsn:0/3000060`.

    Raises:
        UsageError: it is none of these.
    """
    kind, _, value = text.partition(":")
    if kind == "time":
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = datetime.min  # noqa: DTZ901 - without a zone, and so refused below
        if moment.tzinfo is not None:
            return Target.time(moment.timestamp())
    if kind == "xid" and value.isdigit():
        return Target.xid(int(value))
    if kind == "name" and value:
        return Target.name(value)
    if kind == "lsn" and _LSN.fullmatch(value):
        return Target.lsn(value)
    if text == "latest":
        return LATEST
    raise UsageError(
        f"{text!r} is no moment to restore to; write latest, time:2026-11-24T12:00:00Z (with its zone), xid:731, name:MARKER "
        "or lsn:0/3000060"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Proof that recovery stopped at its target.

    Attributes:
        words: the server's own line.
        last_commit: of the last transaction that was replayed, in seconds since the Unix epoch; None when none was.
        timeline: that the server has written on since.
    """

    words: str
    last_commit: float | None
    timeline: int


_START = re.compile(r"LOG:  starting (?:point-in-time|archive) recovery")
_STOP = re.compile(
    r"LOG:  (recovery stopping (?P<where>before|after|at) (?:"
    r"(?P<end>commit|abort) of (?:prepared )?transaction (?P<xid>\d+), time (?P<time>[^\n]+)"
    r'|restore point "(?P<name>[^"]*)", time [^\n]+'
    r'|WAL location \(LSN\) "(?P<lsn>[0-9A-F]+/[0-9A-F]+)"'
    r"|(?P<consistent>reaching consistency)))"
)
_DONE = re.compile(r"LOG:  (redo done at [0-9A-F]+/[0-9A-F]+|redo is not required)")
_FATAL = re.compile(r"(?:FATAL|PANIC):  ([^\n]*)")
# Clients that ask too early are told so with FATAL as well: only a server that went down has failed.
_ENDED = re.compile(
    r"LOG:  (startup process \(PID \d+\) (?:exited|was terminated)|aborting startup|database system is shut down)"
)
_REMEDIES = {
    "recovery ended before configured recovery target was reached": (
        "the archived WAL ends before {target}: choose an earlier target, or `latest` for all that is archived; "
        "a time needs one commit after it in the archive"
    ),
    "requested recovery stop point is before consistent recovery point": (
        "{target} is older than the backup that was restored: restore one that ended before it"
    ),
}


def wait_for_target(  # noqa: PLR0913 - what waiting needs
    dsn: str, passfile: Path, log: Path, target: Target, *,
    newest_wal: str | None = None, within_s: float = 600.0, clock: Clock | None = None,
) -> Reached:  # fmt: skip
    """Wait until a restored server has left recovery, and prove that it did so at its target.

    A server that starts proves nothing: the log must name the stop, and the stop must be the target.

    Args:
        dsn: of the restored server; any role that may log in.
        passfile: libpq password file.
        log: the server's log, in English, with the messages of this start.
        target: that the restore was given.
        newest_wal: for `latest`: the newest segment of the archive before the server was started. At a segment that is missing
            PostgreSQL takes the WAL for ended, and comes up without what follows and without a word.
        within_s: deadline; the server replays the WAL meanwhile.
        clock: for waiting.

    Raises:
        StepFailed: it stopped elsewhere, could not reach the target, or did not come up in time; the message holds the server's
            words and what to do.
    """
    clock = clock or SystemClock()
    until, seen = clock.now() + within_s, "nothing"
    while True:
        try:
            with psycopg.connect(dsn, passfile=str(passfile), connect_timeout=5) as connection:
                row = connection.execute("SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp()").fetchone()
                assert row  # noqa: S101 - for the type checker
                if not row[0]:
                    name = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
                    assert name  # noqa: S101 - the same
                    last = row[1].timestamp() if row[1] else None
                    words = _stop(_story(log), target, last)
                    if newest_wal and target.kind == "latest":
                        _raise_if_short(words, newest_wal)
                    return Reached(words=words, last_commit=last, timeline=int(name[0][:8], 16))
            seen = "it is still in recovery"
        except psycopg.OperationalError as error:
            seen = str(error).strip()[-300:]
            _raise_if_ended(_story(log), target)
        if clock.now() >= until:
            raise StepFailed(f"recovery to {target} did not end within {within_s:.0f} s; last seen: {seen}")
        clock.sleep(POLL_S)


def _story(log: Path) -> str:
    """The log from the last recovery on."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    starts = list(_START.finditer(text))
    return text[starts[-1].start() :] if starts else text


def _raise_if_ended(story: str, target: Target) -> None:
    ended = _ENDED.search(story)
    if not ended:
        return
    told = _FATAL.findall(story) or [ended[1]]
    words, remedy = next(
        ((words, remedy) for words in told for start, remedy in _REMEDIES.items() if words.startswith(start)),
        (told[-1], "its log says more"),
    )
    raise StepFailed(f"recovery to {target} failed: {words}; {remedy.format(target=target)}")


def _raise_if_short(words: str, newest_wal: str) -> None:
    done = re.search(r"[0-9A-F]+/[0-9A-F]+", words)
    # A record may begin in the segment before the newest and reach into it.
    if done and place(done[0]) // SEGMENT_BYTES < number(newest_wal) - 1:
        raise StepFailed(f"recovery to latest: {words}, yet the archive goes on until {newest_wal}; WAL in between is missing")


def _stop(story: str, target: Target, last_commit: float | None) -> str:
    stop = _STOP.search(story)
    if target.kind == "latest":
        done = _DONE.search(story)
        if not _START.search(story) or not done or stop:
            raise StepFailed(f"recovery to {target}: the log tells {stop[1] if stop else 'of no recovery'}")
        return done[1]
    if not stop:
        raise StepFailed(f"recovery to {target}: the server is up and its log names no stop; what it holds is not known")
    where = stop["where"]
    exact = {
        "immediate": bool(stop["consistent"]),
        "xid": where == "after" and stop["end"] == "commit" and stop["xid"] == target.value,
        "name": where == "at" and stop["name"] == target.value,
        # The first record that begins there or later: there is none in between.
        "lsn": bool(stop["lsn"]) and where == "after" and place(stop["lsn"]) >= place(target.value or "0/0"),
        # The server leaves out the first commit after the moment; what it replayed last is not after it.
        "time": where == "before" and bool(stop["end"]) and (last_commit is None or last_commit <= (target.at or 0.0)),
    }[target.kind]
    if not exact:
        last = f"; last commit {iso(last_commit)}" if last_commit else ""
        raise StepFailed(f"recovery to {target} ended elsewhere: {stop[1]}{last}")
    return stop[1]


def place(lsn: str) -> int:
    """A place in the WAL as a number of bytes."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
