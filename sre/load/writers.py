"""Writers whose every attempt is on file: `python -m sre.load.writers JOB.json`, begun and vouched for by `start`.

Each writer is a thread with one connection. It inserts one row per transaction into table `history`, and notes each attempt in a
ledger (see `ledger_file`) on a path that the database's faults do not reach. After anything but an acknowledgement it connects
anew, after a pause, and goes on with the next number: the same row is never sent twice, so that what is found proves which
attempt came through.

Acknowledged is what COMMIT returned for without a warning. PostgreSQL returns success with a warning when the wait for a
synchronous standby is cancelled: the row is then on the primary alone, and its fate unknown.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import psycopg

import sre
from sre.errors import StepFailed, in_words
from sre.judges.history import Attempt, Fate, Key, Row
from sre.load.ledger_file import LedgerFile

CONNECT_SECONDS = 2  # to each server of the connection string
UNACKNOWLEDGED_SECONDS = 5  # TCP gives up a server whose machine is silent
STATEMENT_SECONDS = 10
# A frozen server's kernel still acknowledges, and the statement's limit does not count while COMMIT waits for a standby.
ANSWER_SECONDS = 12.0
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0
TABLE_SECONDS = 30.0
START_SECONDS = 20.0 + TABLE_SECONDS
GRACE_SECONDS = ANSWER_SECONDS + 3 * CONNECT_SECONDS + 10.0
LOG_NAME, JOB_NAME, LEDGER_NAME = "writers.log", "writers.json", "attempts.jsonl"
_POLL_SECONDS = 0.05
_LAST_WORDS = 800

TABLE = (
    "CREATE TABLE IF NOT EXISTS history "
    "(run text, writer integer, seq bigint, payload bytea NOT NULL, PRIMARY KEY (run, writer, seq))"
)
INSERT = "INSERT INTO history (run, writer, seq, payload) VALUES (%s, %s, %s, %s)"
# Each row as it lies in the table: an index would hide a row that it lacks, and show a doubled one once.
ROWS = "SELECT run, writer, seq, payload FROM history WHERE run = %s"
PLAIN_SCAN = "-c enable_indexscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the writers are told, as JSON in a file.

    Attributes:
        dsn: libpq connection string without a password; may name several servers, the one that takes writes is used.
        passfile: libpq password file for it.
        run: names this history in the table; used once.
        writers: how many write at a time.
        rate: attempts per second of each writer; None for as many as it can.
        seconds: length, s.
        seed: fixes the payloads and the pauses.
        ledger: path of the ledger, which must not exist.
        parent: process id of the one that started it; the writers stop when it is gone.
    """

    dsn: str
    passfile: str
    run: str
    writers: int
    rate: float | None
    seconds: float
    seed: int
    ledger: str
    parent: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """The job in a file. Raises TypeError when a field is missing or unknown."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def payload(seed: int, key: Key) -> bytes:
    """What is written under a key: eight bytes."""
    return hashlib.blake2b(f"{seed}/{key.run}/{key.writer}/{key.seq}".encode(), digest_size=8).digest()


def rows(dsn: str, passfile: str, run: str) -> list[Row]:
    """All rows of a run, whatever the indexes say. Raises psycopg.Error when the database cannot be asked."""
    with psycopg.connect(dsn, passfile=passfile, connect_timeout=CONNECT_SECONDS, options=PLAIN_SCAN) as connection:
        found = connection.execute(ROWS, [run]).fetchall()
    return [Row(Key(run, writer, seq), content.hex()) for run, writer, seq, content in found]


class Line:
    """One writer's connection. Whoever waits for it too long is freed by `enforce`, called from another thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._connection: Connection | None = None
        self._warnings: list[str] = []
        self.server: int | None = None

    def insert(self, key: Key, content: bytes) -> tuple[Fate, str]:
        """Write one row; returns its fate and what was said. Never raises what the database or the connection does."""
        self._deadline = time.monotonic() + ANSWER_SECONDS
        self._warnings.clear()
        committing = False
        try:
            connection = self._connection or self._connect()
            connection.execute(INSERT, [*key, content])
            committing = True
            connection.commit()
        except psycopg.Error as error:
            self.close()
            return Fate.UNKNOWN if committing else Fate.FAILED, in_words(error)
        if self._warnings:
            self.close()
            return Fate.UNKNOWN, "; ".join(self._warnings)
        self._deadline = math.inf
        return Fate.ACKED, ""

    def make_table(self) -> None:
        """Make the table where it is missing. Raises psycopg.Error."""
        self._deadline = time.monotonic() + ANSWER_SECONDS
        try:
            connection = self._connect()
            connection.execute(TABLE)
            connection.commit()
        finally:
            self.close()

    def enforce(self) -> None:
        """Cut the connection when its answer is overdue; whoever waits then gets an error."""
        # The connection may have ended by itself just now.
        with self._lock, suppress(psycopg.Error, OSError):
            if self._connection is not None and self._deadline < time.monotonic():
                with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection, if there is one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        self.server = None
        connection = psycopg.connect(
            self._job.dsn, passfile=self._job.passfile, target_session_attrs="read-write", connect_timeout=CONNECT_SECONDS,
            tcp_user_timeout=1000 * UNACKNOWLEDGED_SECONDS, options=f"-c statement_timeout={STATEMENT_SECONDS}s",
            application_name="sre-writers",
        )  # fmt: skip
        with self._lock:
            self._connection = connection
        connection.add_notice_handler(lambda notice: self._warnings.append(notice.message_primary or "a notice without words"))
        row = connection.execute("SELECT inet_server_port()").fetchone()
        self.server = row[0] if row else None
        return connection


class Writer:
    """One of the writers."""

    def __init__(self, job: Job, number: int, ledger: LedgerFile, stopping: threading.Event) -> None:
        self.line = Line(job)
        self._job = job
        self._number = number
        self._ledger = ledger
        self._stopping = stopping
        self._pauses = random.Random(f"{job.seed}/{number}")  # noqa: S311 - jitter

    def write(self) -> None:
        """Write until told to stop. Raises OSError when the ledger cannot be written: what is off the record proves nothing."""
        seq, failures, due = 0, 0, time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            fate = self._attempt(Key(self._job.run, self._number, seq))
            seq += 1
            failures = 0 if fate is Fate.ACKED else failures + 1
            # What an outage kept from being written is not made up for: the rate afterwards would hide how service came back.
            due = max(due + (1 / self._job.rate if self._job.rate else 0.0), time.monotonic() + self._pause(failures))
        self.line.close()

    def _attempt(self, key: Key) -> Fate:
        content = payload(self._job.seed, key)
        attempt = Attempt(key=key, payload=content.hex(), sent=time.monotonic(), sent_wall=time.time())
        self._ledger.sent(attempt)
        fate, error = self.line.insert(key, content)
        done, wall = time.monotonic(), time.time()
        self._ledger.answered(replace(attempt, done=done, done_wall=wall, fate=fate, server=self.line.server, error=error))
        return fate

    def _pause(self, failures: int) -> float:
        if not failures:
            return 0.0
        longest = min(LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS * 2.0 ** min(failures, 10))
        return self._pauses.uniform(SHORTEST_PAUSE_SECONDS, longest)


def work(job: Job) -> None:
    """Carry out a job in this process; returns after its seconds, at SIGTERM, or when the parent is gone.

    Raises:
        StepFailed: the table could not be made; nothing was written.
        OSError: the ledger could not be written.
    """
    told: list[int] = []  # a list, for an Event's lock may be held by the very thread that the signal interrupts

    def hear(number: int, _: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, hear)
    _make_table(job)
    ledger, stopping = LedgerFile(Path(job.ledger)), threading.Event()
    writers = [Writer(job, number, ledger, stopping) for number in range(job.writers)]
    end = time.monotonic() + job.seconds
    with ThreadPoolExecutor(job.writers) as pool:
        writing = [pool.submit(writer.write) for writer in writers]
        while not all(one.done() for one in writing):
            if told or time.monotonic() >= end or os.getppid() != job.parent or any(one.done() for one in writing):
                stopping.set()
            for writer in writers:
                writer.line.enforce()
            time.sleep(_POLL_SECONDS)
    ledger.close()
    for one in writing:
        one.result()


def _make_table(job: Job) -> None:
    deadline, line = time.monotonic() + TABLE_SECONDS, Line(job)
    while True:
        try:
            return line.make_table()
        except psycopg.Error as error:
            # Two that make it at once collide in the catalogue; the next try finds it.
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"table history cannot be made within {TABLE_SECONDS:.0f} s (last: {in_words(error)})"
                ) from error
        time.sleep(SHORTEST_PAUSE_SECONDS)


class Writing:
    """Writers that have begun. Made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], job: Job, folder: Path) -> None:
        self._process = process
        self._job = job
        self._folder = folder

    def running(self) -> bool:
        """Whether they still write."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End them; returns once the last attempt's fate is on file. Idempotent.

        Raises:
            StepFailed: they died, or did not end in time; the message holds their last words.
        """
        if self.running():
            self._process.terminate()
        self._end_within(GRACE_SECONDS)

    def wait(self) -> None:
        """Wait until the job's seconds are over. Raises as `stop` does."""
        self._end_within(self._job.seconds + GRACE_SECONDS)

    def started(self) -> None:
        """Wait until the first attempt is on file. Raises StepFailed when they died before, or took too long."""
        ledger, deadline = Path(self._job.ledger), time.monotonic() + START_SECONDS
        while not ledger.exists() or not ledger.stat().st_size:
            if not self.running() or time.monotonic() > deadline:
                self._fail(f"did not begin to write within {START_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    def _end_within(self, seconds: float) -> None:
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._fail(f"did not end within {seconds:.0f} s")
        if status:
            self._fail(f"died with {status}")

    def _fail(self, what: str) -> None:
        self._process.kill()
        self._process.wait()
        log = self._folder / LOG_NAME
        words = log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
        raise StepFailed(f"the writers {what}; last words: {words or 'none'}; see {log}")


def start(job: Job, folder: Path) -> Writing:
    """Begin to write; returns once the first attempt is on file.

    Args:
        job: its ledger lies on another path than the database.
        folder: gets the job and the log; made if missing.

    Raises:
        StepFailed: the ledger exists already, or the writers died before they wrote anything.
    """
    if Path(job.ledger).exists():
        raise StepFailed(f"{job.ledger} exists already; give each run of the writers a ledger of its own")
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / JOB_NAME
    told.write_text(json.dumps(asdict(job), indent=2) + "\n", encoding="utf-8")
    root = str(Path(sre.__file__).resolve().parents[1])
    with (folder / LOG_NAME).open("wb") as log:
        # A session of its own: Ctrl-C reaches the drill first, which then stops the writers.
        process = subprocess.Popen(
            [sys.executable, "-m", "sre.load.writers", str(told.resolve())], env={**os.environ, "PYTHONPATH": root},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    writing = Writing(process, job, folder)
    writing.started()
    return writing


if __name__ == "__main__":
    work(Job.read(Path(sys.argv[1])))
