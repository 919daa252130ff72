"""The recorder against a real database that comes and goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from system import telemetry
from system.serving.recorder import Recorder
from system.storage.engine import migrate
from system.storage.tables import PredictionRow, real_array, write_predictions


def row(number: int, *, media_type: str = "image/png") -> PredictionRow:
    now = datetime.now(UTC)
    return PredictionRow(
        f"r{number}", now, "serving-1", "3", "7", real_array([0.1] * 10), bytes(32), media_type, 1.5, "fp32", "a" * 32
    )


def total(name: str) -> float:
    return telemetry.REGISTRY.get_sample_value(f"model_prediction_records_{name}") or 0.0


def until(what: Callable[[], object], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)


class Database:
    """One database of the server: its rows, and an outage of it alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.server, _, self.name = url.rpartition("/")

    def ids(self) -> list[str]:
        with psycopg.connect(self.url) as connection:
            return [found for (found,) in connection.execute("SELECT request_id FROM predictions ORDER BY id")]

    def _admin(self, statement: str) -> None:
        with psycopg.connect(f"{self.server}/postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def go(self) -> None:
        self._admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self._admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")  # noqa: S608 - our name

    def come(self) -> None:
        self._admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")


@pytest.fixture
def database(database_url: str) -> Database:
    migrate(database_url)
    return Database(database_url)


@pytest.fixture
def recorder(database: Database) -> Iterator[Recorder]:
    recorder = Recorder(database.url, capacity=3000, application="serving-1")
    yield recorder
    if recorder._thread.is_alive():
        recorder.stop(within_s=0.1)


def test_rows_are_written_in_order_and_counted(recorder: Recorder, database: Database) -> None:
    written = total("written_total")
    for number in range(2500):  # more than two batches
        recorder.record(row(number))
    assert recorder.waiting == 2500
    recorder.start()
    until(lambda: recorder.waiting == 0)
    recorder.stop(within_s=5)
    assert database.ids() == [f"r{number}" for number in range(2500)]
    assert total("written_total") - written == 2500
    assert total("waiting") == 0


def test_a_full_queue_drops_counts_and_says_so(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(database.url, capacity=10, application="serving-1")
    dropped = total("dropped_total")
    for number in range(13):
        recorder.record(row(number))
    assert total("dropped_total") - dropped == 3
    recorder.start()
    recorder.stop(within_s=5)
    assert database.ids() == [f"r{number}" for number in range(10)]
    assert "3 predictions dropped in all: the queue of 10 is full" in caplog.text


def test_an_outage_costs_no_row_and_doubles_none(
    recorder: Recorder, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.start()
    recorder.record(row(0))
    until(lambda: database.ids() == ["r0"])
    database.go()
    for number in range(1, 50):
        recorder.record(row(number))
    until(lambda: "predictions cannot be written, 49 wait" in caplog.text)
    database.come()
    until(lambda: recorder.waiting == 0)
    assert database.ids() == [f"r{number}" for number in range(50)]


def test_a_batch_whose_commit_was_not_confirmed_is_looked_up_before_it_is_sent_again(
    recorder: Recorder, database: Database
) -> None:
    rows = [row(number) for number in range(5)]
    with psycopg.connect(database.url) as connection:
        write_predictions(connection, rows)
    recorder._batch, recorder._doubtful = rows, True  # as a connection leaves it that breaks during its commit
    recorder.record(row(5))
    recorder.start()
    recorder.stop(within_s=5)
    assert database.ids() == [f"r{number}" for number in range(6)]


def test_a_batch_that_the_database_refuses_does_not_block_the_next(
    recorder: Recorder, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    dropped = total("dropped_total")
    recorder.start()
    recorder.record(row(0, media_type="no\0text"))
    until(lambda: "1 predictions refused by the database" in caplog.text)
    recorder.record(row(1))
    recorder.stop(within_s=5)
    assert database.ids() == ["r1"]
    assert total("dropped_total") - dropped == 1


def test_a_table_that_comes_later_is_waited_for(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(database_url, capacity=10, application="serving-1")
    recorder.record(row(0))
    recorder.start()
    until(lambda: 'relation "predictions" does not exist' in caplog.text)
    migrate(database_url)
    until(lambda: recorder.waiting == 0)
    recorder.stop(within_s=5)
    assert Database(database_url).ids() == ["r0"]


def test_stopping_without_a_database_ends_in_time_and_counts_the_loss(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder("postgresql://nobody@127.0.0.1:9/nowhere", capacity=10, application="serving-1")
    dropped = total("dropped_total")
    recorder.start()
    recorder.record(row(0))
    recorder.stop(within_s=0.3)
    assert total("dropped_total") - dropped == 1
    assert "1 predictions are lost" in caplog.text
    until(lambda: not any(thread.name == "recorder" for thread in threading.enumerate()))
