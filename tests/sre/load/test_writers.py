"""The writers against a PostgreSQL that is killed, frozen, read-only, and one whose standby never answers."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from sre.errors import StepFailed
from sre.judges.history import Attempt, Fate, HistoryCheck, Key, check, no_acknowledged_loss
from sre.load import ledger_file, writers
from sre.load.writers import Job, Line, Writing
from sre.promises import promise
from sre.targets.local.programs import find
from sre.verdict import Outcome

pytestmark = pytest.mark.local

PROMISE = replace(promise("restore-content"), least=20)  # any bound of one, as a count
FLAGS = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "shared_buffers=16MB", "-c", "fsync=on")


class Server:
    """A PostgreSQL of one's own that survives being killed: its data is on disk before it answers."""

    def __init__(self, folder: Path, programs: Path, primary: Server | None = None) -> None:
        self._found = find("postgres", programs)
        self._folder = folder
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._user: dict[str, Any] = (
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._environment = {**os.environ, **self._found.environment}
        os.chown(folder, account.pw_uid, account.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        if primary is None:
            self._make("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        else:
            self._make("pg_basebackup", "-d", f"postgresql://postgres@127.0.0.1:{primary.port}", "-R", "-c", "fast", "-N")
        self.start()

    def _make(self, program: str, *arguments: str) -> None:
        command: list[str | Path] = [self._found.companion(program), "-D", self._folder / "data", *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, env=self._environment, **self._user)

    @property
    def dsn(self) -> str:
        """With a server that is not there before it, as a cluster's string has."""
        return f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{self.port}/postgres?target_session_attrs=read-write"

    @property
    def _own(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._found.path, "-D", self._folder / "data", "-p", str(self.port), *FLAGS], stdout=log, stderr=log,
                cwd=self._folder, env=self._environment, **self._user,
            )  # fmt: skip
        wait_for(self._answers)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def kill(self) -> None:
        """The server alone: its backends end by themselves, some of them after an answer."""
        backends = psutil.Process(self._process.pid).children()
        self._process.kill()
        self._process.wait(20)
        # Until they are gone the data is in use, and no server starts on it.
        assert not psutil.wait_procs(backends, 20)[1]

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        with psycopg.connect(self._own, autocommit=True) as connection:
            connection.execute(statement.encode(), values)

    def ask(self, query: str) -> Any:
        """The first value of an answer, None without one."""
        with psycopg.connect(self._own, connect_timeout=2) as connection:
            return (connection.execute(query.encode()).fetchone() or (None,))[0]

    def _answers(self) -> bool:
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            return False
        return True


@pytest.fixture(scope="module")
def server(open_module_folder: Path, programs: Path) -> Iterator[Server]:
    begun = Server(open_module_folder, programs)
    yield begun
    begun.stop()


@pytest.fixture
def job(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    ledger = tmp_path / "attempts.jsonl"
    return Job(
        dsn=server.dsn, passfile=str(tmp_path / "none"), run=request.node.name, writers=3, rate=None, seconds=600.0, seed=1,
        ledger=str(ledger), parent=os.getpid(),
    )  # fmt: skip


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[Job], Writing]]:
    begun: list[Writing] = []

    def begin(job: Job) -> Writing:
        begun.append(writers.start(job, tmp_path / "writers"))
        return begun[-1]

    yield begin
    for writing in begun:
        if writing.running():
            writing.stop()


def attempts(job: Job) -> list[Attempt]:
    return ledger_file.read(Path(job.ledger))


def acked(job: Job, since: float = 0.0) -> int:
    return sum(attempt.fate is Fate.ACKED and attempt.sent >= since for attempt in attempts(job))


def checked(job: Job) -> HistoryCheck:
    return check(attempts(job), writers.rows(job.dsn, job.passfile, job.run))


def test_every_acknowledged_row_is_there(job: Job, begin: Callable[[Job], Writing], server: Server) -> None:
    writing = begin(job)
    wait_for(lambda: acked(job) >= 30)
    writing.stop()
    writing.stop()
    history = attempts(job)
    assert {attempt.fate for attempt in history} == {Fate.ACKED}
    assert {attempt.server for attempt in history} == {server.port}
    for number in range(job.writers):
        seqs = [attempt.key.seq for attempt in history if attempt.key.writer == number]
        assert seqs == list(range(len(seqs)))
    found = checked(job)
    assert (found.acked, found.differences) == (len(history), 0)
    assert no_acknowledged_loss(PROMISE, found).outcome is Outcome.KEPT


def test_a_job_ends_by_itself(job: Job, begin: Callable[[Job], Writing]) -> None:
    begin(replace(job, seconds=0.3, rate=20.0)).wait()
    assert 1 <= acked(job) == len(attempts(job)) <= 3 * 8


def test_a_server_killed_under_writers_loses_nothing_and_a_row_taken_away_is_missed(
    job: Job, begin: Callable[[Job], Writing], server: Server
) -> None:
    writing = begin(job)
    wait_for(lambda: acked(job) >= 30)
    server.kill()
    killed = time.monotonic()
    server.start()
    wait_for(lambda: acked(job, since=killed) >= 30)
    writing.stop()
    history = attempts(job)
    assert any(attempt.fate is not Fate.ACKED for attempt in history)
    assert len({attempt.key for attempt in history}) == len(history)
    assert checked(job).differences == 0
    victim, changed = (next(a.key for a in history if a.fate is Fate.ACKED and a.key.writer == n) for n in (0, 1))
    stranger = Key(job.run, 0, 10**9)
    server.execute("DELETE FROM history WHERE (run, writer, seq) = (%s, %s, %s)", victim)
    server.execute("UPDATE history SET payload = 'x' WHERE (run, writer, seq) = (%s, %s, %s)", changed)
    server.execute(writers.INSERT, (*stranger, b"x"))
    found = checked(job)
    assert (found.lost, found.altered, found.invented) == ((victim,), (changed,), (stranger,))
    assert no_acknowledged_loss(PROMISE, found).outcome is Outcome.BROKEN


@pytest.fixture
def pair(open_folder: Path, programs: Path) -> Iterator[tuple[Server, Server]]:
    """A primary and the standby that follows it."""
    with ExitStack() as stack:
        servers: list[Server] = []
        for name in ("primary", "standby"):
            (open_folder / name).mkdir()
            servers.append(Server(open_folder / name, programs, servers[0] if servers else None))
            stack.callback(servers[-1].stop)
        yield servers[0], servers[1]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_failover_to_a_standby_that_lags_loses_what_was_acknowledged_without_it(
    job: Job, begin: Callable[[Job], Writing], pair: tuple[Server, Server], mode: str
) -> None:
    primary, standby = pair
    both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    job = replace(job, dsn=f"postgresql://postgres@{both}/postgres?target_session_attrs=read-write")
    if mode == "sync":
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
    wait_for(lambda: primary.ask("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'") == mode)
    writing = begin(job)
    wait_for(lambda: acked(job) >= 30)
    standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
    standby.execute("SELECT pg_reload_conf()")
    wait_for(lambda: primary.ask("SELECT count(*) FROM pg_stat_replication") == 0)
    lagging = time.monotonic()
    if mode == "async":
        wait_for(lambda: acked(job, since=lagging) >= 30)
    else:
        wait_for(lambda: primary.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == job.writers)
    primary.kill()
    killed = time.monotonic()
    standby.ask("SELECT pg_promote()")
    wait_for(lambda: acked(job, since=killed) >= 30)
    writing.stop()
    assert {attempt.server for attempt in attempts(job) if attempt.fate is Fate.ACKED} == {primary.port, standby.port}
    found = checked(job)
    assert (found.invented, found.doubled, found.altered) == ((), (), ())
    if mode == "async":
        assert len(found.lost) >= 30
        assert no_acknowledged_loss(PROMISE, found).outcome is Outcome.BROKEN
    else:
        assert found.lost == ()
        assert found.unknown_found + found.unknown_absent >= job.writers
        assert no_acknowledged_loss(PROMISE, found).outcome is Outcome.KEPT


def test_writers_killed_themselves_leave_no_row_without_its_attempt(job: Job, begin: Callable[[Job], Writing]) -> None:
    writing = begin(job)
    wait_for(lambda: acked(job) >= 30)
    writing._process.kill()
    with pytest.raises(StepFailed, match="died with -9"):
        writing.wait()
    # Their backends may still be at the last row.
    wait_for(lambda: sessions(job) == 0)
    assert checked(job).differences == 0


def sessions(job: Job) -> int:
    with psycopg.connect(job.dsn) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sre-writers'"
        (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)


def test_writers_end_when_their_parent_is_gone(job: Job, begin: Callable[[Job], Writing]) -> None:
    begin(replace(job, parent=1)).wait()
    assert checked(job).differences == 0


@contextmanager
def setting(server: Server, name: str, value: str) -> Iterator[None]:
    server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        server.execute(f"ALTER SYSTEM RESET {name}")
        server.execute("SELECT pg_reload_conf()")


@pytest.fixture
def line(job: Job) -> Iterator[Line]:
    line = Line(job)
    line.make_table()
    yield line
    line.close()


def waiting(job: Job) -> bool:
    with psycopg.connect(job.dsn, options="-c synchronous_commit=local") as connection:
        return bool(connection.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone())


def test_a_success_with_a_warning_is_no_acknowledgement(job: Job, line: Line, server: Server) -> None:
    with setting(server, "synchronous_standby_names", "nobody"), ThreadPoolExecutor() as pool:
        for seq in count():  # the server takes up a setting when it comes to it
            written = pool.submit(line.insert, Key(job.run, 0, seq), b"x")
            wait_for(lambda: written.done() or waiting(job))  # noqa: B023 - called at once
            if not written.done():
                break
        server.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        fate, said = written.result(20)
    assert fate is Fate.UNKNOWN
    assert said == "canceling wait for synchronous replication due to user request"
    assert Key(job.run, 0, seq) in {row.key for row in writers.rows(job.dsn, job.passfile, job.run)}
    assert line.insert(Key(job.run, 0, seq + 1), b"x") == (Fate.ACKED, "")


def enforced(line: Line, key: Key) -> tuple[Fate, str]:
    """An insert, watched as `work` watches it."""
    with ThreadPoolExecutor() as pool:
        written = pool.submit(line.insert, key, b"x")
        while not written.done():
            line.enforce()
            time.sleep(0.02)
    line.enforce()
    return written.result()


def test_a_commit_that_never_answers_is_given_up_and_unknown(
    job: Job, line: Line, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "ANSWER_SECONDS", 0.5)
    with setting(server, "synchronous_standby_names", "nobody"):
        fates = (enforced(line, Key(job.run, 0, seq))[0] for seq in range(1000))
        assert next(fate for fate in fates if fate is not Fate.ACKED) is Fate.UNKNOWN
    wait_for(lambda: not waiting(job))
    monkeypatch.undo()
    assert enforced(line, Key(job.run, 1, 0)) == (Fate.ACKED, "")


def test_an_insert_that_never_answers_surely_failed(job: Job, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "ANSWER_SECONDS", 0.2)
    with psycopg.connect(job.dsn) as holder:
        holder.execute("LOCK TABLE history IN EXCLUSIVE MODE")
        assert enforced(line, Key(job.run, 0, 0))[0] is Fate.FAILED
    assert writers.rows(job.dsn, job.passfile, job.run) == []


@pytest.mark.parametrize("reason", ["read-only", "refused", "the same row"])
def test_what_the_server_refuses_surely_failed(job: Job, line: Line, server: Server, reason: str) -> None:
    key = Key(job.run, 0, 0)
    if reason == "read-only":
        with setting(server, "default_transaction_read_only", "on"):
            wait_for(lambda: "read-only" in line.insert(key, b"x")[1])
            assert line.insert(key, b"x")[0] is Fate.FAILED
            assert line.server is None
    elif reason == "refused":
        fate, said = Line(replace(job, dsn="postgresql://postgres@127.0.0.1:1/postgres")).insert(key, b"x")
        assert fate is Fate.FAILED
        assert "Connection refused" in said
    else:
        assert line.insert(key, b"x")[0] is Fate.ACKED
        fate, said = line.insert(key, b"y")
        assert fate is Fate.FAILED
        assert "duplicate key" in said


def test_a_table_that_cannot_be_made_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "TABLE_SECONDS", 0.1)
    with pytest.raises(StepFailed, match=r"cannot be made within 0 s \(last: .*Connection refused"):
        writers._make_table(replace(job, dsn="postgresql://postgres@127.0.0.1:1/postgres"))


def test_a_ledger_is_used_once(job: Job, begin: Callable[[Job], Writing]) -> None:
    Path(job.ledger).touch()
    with pytest.raises(StepFailed, match="exists already"):
        begin(job)


def test_writers_that_cannot_begin_tell_why(job: Job, begin: Callable[[Job], Writing]) -> None:
    with pytest.raises(StepFailed, match=r"(?s)did not begin to write.*No such file or directory"):
        begin(replace(job, ledger="/nowhere/attempts.jsonl"))


def test_a_ledger_that_takes_no_more_ends_the_writer(job: Job, line: Line) -> None:
    ledger = ledger_file.LedgerFile(Path(job.ledger))
    ledger.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writers.Writer(job, 0, ledger, threading.Event()).write()
    assert writers.rows(job.dsn, job.passfile, job.run) == []


def test_pauses_grow_with_failures_and_stay_within_their_limits(job: Job, tmp_path: Path) -> None:
    ledger = ledger_file.LedgerFile(tmp_path / "other.jsonl")
    one, other = (writers.Writer(job, number, ledger, threading.Event()) for number in (0, 1))
    assert one._pause(0) == 0.0
    for failures in (1, 3, 10, 5000):
        pauses = [one._pause(failures) for _ in range(200)]
        longest = min(1.0, 0.05 * 2.0 ** min(failures, 10))
        assert 0.05 <= min(pauses) < max(pauses) <= longest
        assert max(pauses) > 0.9 * longest
    assert one._pause(10) != other._pause(10)
    ledger.close()


def test_the_seed_alone_decides_what_is_written() -> None:
    keys = [Key("r", writer, seq) for writer in range(3) for seq in range(100)]
    assert len({writers.payload(seed, key) for seed in (1, 2) for key in keys}) == 600
    assert writers.payload(1, keys[0]).hex() == writers.payload(1, Key("r", 0, 0)).hex()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
