"""The prediction log's writer: a bounded queue and one thread. It never slows or fails a request; what it must drop it counts."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic, sleep

import psycopg

from system.errors import StorageError
from system.storage.engine import connect
from system.storage.tables import PredictionRow, holds_prediction, write_predictions
from system.telemetry import RECORDS_DROPPED, RECORDS_WAITING, RECORDS_WRITTEN

log = logging.getLogger(__name__)

_INTERVAL_S = 0.2
_LONGEST_PAUSE_S = 5.0
_RETRY_AT_STOP_S = 0.5
_BATCH_ROWS = 1000


class Recorder:
    """Takes rows in the event loop, writes them in its own thread.

    A batch is one transaction. When the connection breaks while it commits, the next connection looks whether it arrived,
    so a row is written once.
    """

    def __init__(self, database_url: str, *, capacity: int, application: str) -> None:
        """`capacity` is the most rows that wait; `application` is the name that the database shows."""
        self._database_url = database_url
        self._capacity = capacity
        self._application = application
        self._queue: deque[PredictionRow] = deque()
        self._batch: list[PredictionRow] = []
        self._doubtful = False  # the batch was sent before, and nobody knows whether it was committed
        self._connection: psycopg.Connection | None = None
        self._dropped = 0
        self._give_up_at: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    @property
    def waiting(self) -> int:
        """Rows taken and not yet written."""
        return len(self._queue) + len(self._batch)

    def record(self, row: PredictionRow) -> None:
        """Queue a row, or count it as dropped when the queue is full."""
        if self.waiting >= self._capacity:
            self._drop(1)
            return
        self._queue.append(row)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """Write what waits, for at most about `within_s`; the rest is dropped, counted and logged."""
        self._give_up_at = monotonic() + within_s
        self._stopping.set()
        self._thread.join(within_s)
        if lost := self.waiting:
            self._drop(lost)
            log.error("%d predictions are lost: the database could not take them within %.0f s of the shutdown", lost, within_s)

    def _run(self) -> None:
        pause_s = _INTERVAL_S
        reported = 0
        while True:
            stopping = self._stopping.wait(pause_s)
            RECORDS_WAITING.set(self.waiting)
            written = self._write_waiting()
            if self._dropped > reported:
                log.error("%d predictions dropped in all: the queue of %d is full", self._dropped, self._capacity)
                reported = self._dropped
            if stopping and (written or monotonic() > (self._give_up_at or 0)):
                break
            pause_s = _INTERVAL_S if written else min(pause_s * 2, _LONGEST_PAUSE_S)
            if stopping:
                sleep(_RETRY_AT_STOP_S)  # the event is set: waiting on it would spin
        if self._connection is not None:
            self._connection.close()

    def _write_waiting(self) -> bool:
        """Write until nothing waits; whether that succeeded."""
        try:
            while self._batch or self._queue:
                if not self._batch:
                    self._batch = [self._queue.popleft() for _ in range(min(_BATCH_ROWS, len(self._queue)))]
                self._write_batch()
        except (StorageError, psycopg.Error) as error:
            log.warning("predictions cannot be written, %d wait: %s", self.waiting, str(error).strip())
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return False
        return True

    def _write_batch(self) -> None:
        if self._connection is None:
            self._connection = connect(self._database_url, application=self._application)
        if not (self._doubtful and holds_prediction(self._connection, self._batch[0])):
            self._doubtful = True
            try:
                write_predictions(self._connection, self._batch)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                # the database will never take this batch, and the ones behind it must not wait for it
                self._drop(len(self._batch))
                log.error("%d predictions refused by the database: %s", len(self._batch), str(error).strip())  # noqa: TRY400
                self._settle()
                return
        RECORDS_WRITTEN.inc(len(self._batch))
        self._settle()

    def _settle(self) -> None:
        self._batch = []
        self._doubtful = False
        RECORDS_WAITING.set(self.waiting)

    def _drop(self, rows: int) -> None:
        self._dropped += rows
        RECORDS_DROPPED.inc(rows)
