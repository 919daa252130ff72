"""The load generator: `locust -f sre/load/users.py`, launched by `worker` as a process and never imported.

Locust has no open schedule, so one user walks ours and starts a greenlet for each planned arrival. A request that is late,
fails, or is never answered still leaves its record: what a stalled server did to its users cannot hide in requests not sent.
Locust's statistics stay empty; only the recording counts (see `sre.measure.samples`).
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import ssl
import struct
import time
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import gevent.event
import gevent.pool
import gevent.ssl
import locust
import numpy as np
import orjson
from geventhttpclient.response import HTTPConnectionClosed
from locust import FastHttpUser, events, task
from locust.exception import StopUser

from sre.load.job import ANSWER_SECONDS, NEXT, Job
from sre.load.schedule import arrivals
from sre.measure.samples import RECORDS_NAME, Failure, Recording, write_header

JOB = Job.from_environment(os.environ)
RECORD = struct.Struct("<dddHB")  # one sre.measure.samples.SAMPLE
FLUSH_SECONDS = 0.5
LONGEST_NAP_SECONDS = 0.1  # so that a stop is seen soon
SHORTEST_NAP_SECONDS = 0.0005  # arrivals closer than this leave together: half a wake-up each, for lateness far below any bound
_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}

_stopping = gevent.event.Event()


@events.test_stopping.add_listener  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    _stopping.set()


def _be_nice() -> None:
    # Below 0 only root may. It counts among all processes or, where the kernel groups them, within a session: this one is ours.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, JOB.niceness)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(JOB.niceness), encoding="ascii")


def _requests_to_send() -> list[tuple[bytes, dict[str, str]]]:
    key = Path(JOB.api_key_file).read_text(encoding="ascii").strip()
    found = [path for path in sorted(Path(JOB.bodies).rglob("*")) if path.suffix in _TYPES]
    if not found:
        raise SystemExit(f"{JOB.bodies} holds no .jpg or .png file to send")
    # Sorted, the folder holds one class after the other, and what is sent would change every second.
    mixed = [found[index] for index in np.random.default_rng(JOB.seed).permutation(len(found))]
    return [(path.read_bytes(), {"Content-Type": _TYPES[path.suffix], "X-API-Key": key}) for path in mixed]


def _is_prediction(body: bytes) -> bool:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and "label" in answer


def _failure_of(error: Exception) -> Failure:
    # A connection that ends early inside TLS is a lost connection; every other TLS error is about keys or certificates.
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Failure.CONNECT
    if isinstance(error, ssl.SSLError):
        return Failure.TLS
    if isinstance(error, OSError | HTTPConnectionClosed):
        return Failure.CONNECT
    return Failure.OTHER


class Records:
    """The growing `samples.bin`. Written in chunks, so that a watcher reads progress and the sender rarely waits for a disk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = bytearray()

    def add(self, planned: float, sent: float, done: float, status: int, failure: Failure) -> None:
        """Keep one record; `flush` writes it."""
        self._buffer += RECORD.pack(planned, sent, done, status, failure)

    def flush(self) -> None:
        """Write what is kept."""
        self._file.write(self._buffer)
        self._file.flush()
        self._buffer.clear()


class Visitors(FastHttpUser):
    """All the users of the schedule: each planned arrival is one POST /predict."""

    # Twice what can be under way at 1000/s when nothing answers for ANSWER_SECONDS would still not bind: no arrival waits here.
    concurrency = 20_000
    insecure = False
    connection_timeout = network_timeout = 2 * ANSWER_SECONDS  # the deadline of each request, ANSWER_SECONDS, comes first
    ssl_context_factory = staticmethod(lambda **_: gevent.ssl.create_default_context(cafile=JOB.ca_file))

    @task
    def walk(self) -> None:
        """Send the whole schedule, wait for the answers, write the recording, end the process."""
        try:
            with (Path(JOB.folder) / RECORDS_NAME).open("wb") as file:
                self._walk(Records(file))
        except Exception:
            logging.getLogger(__name__).exception("the schedule was not walked to its end")
        if not _stopping.is_set():
            gevent.spawn(self.environment.runner.quit)
        raise StopUser  # else Locust would begin the schedule again

    def _walk(self, records: Records) -> None:
        if JOB.pin_cpu is not None:
            os.sched_setaffinity(0, {JOB.pin_cpu})
        if JOB.niceness:
            _be_nice()
        times = arrivals(JOB.rate, JOB.seconds, JOB.seed)
        requests = _requests_to_send()
        turns = cycle(requests)
        # Sent below Locust's session, which would spend as much again on statistics that nobody reads.
        client = self.client.client.clientpool.get_client(str(self.host))
        under_way = gevent.pool.Group()
        gc.collect()
        gc.freeze()
        records.flush()
        writer = gevent.spawn(self._flush_and_watch_parent, records, [headers for _, headers in requests])
        cpu, started_wall, started = time.process_time(), time.time(), time.monotonic()
        due = started + times
        launched = 0
        while True:
            until = int(np.searchsorted(due, time.monotonic(), side="right"))
            for planned in due[launched:until].tolist():
                under_way.spawn(_visit, client, planned, *next(turns), records)
            launched = until
            if launched == len(due) or _stopping.is_set():
                break
            gevent.sleep(min(LONGEST_NAP_SECONDS, max(SHORTEST_NAP_SECONDS, due[launched] - time.monotonic())))
        cpu = time.process_time() - cpu
        under_way.join(timeout=ANSWER_SECONDS + 1)
        under_way.kill()
        ended = time.monotonic()
        writer.kill()
        records.flush()
        recording = Recording(
            rate=JOB.rate, seconds=JOB.seconds, seed=JOB.seed, started=started, started_wall=started_wall, ended=ended,
            cpu_seconds=cpu, planned=launched, stopped=launched < len(due), tool=f"locust {locust.__version__}",
        )  # fmt: skip
        write_header(Path(JOB.folder), recording)

    def _flush_and_watch_parent(self, records: Records, headers: list[dict[str, str]]) -> None:
        following = Path(JOB.api_key_file + NEXT)
        while True:
            gevent.sleep(FLUSH_SECONDS)
            records.flush()
            if following.exists():
                key = following.read_text(encoding="ascii")
                for one in headers:
                    one["X-API-Key"] = key
                following.unlink()
            if os.getppid() != JOB.parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _visit(client: Any, planned: float, body: bytes, headers: dict[str, str], records: Records) -> None:
    sent, done, status, failure = time.monotonic(), math.nan, 0, Failure.UNANSWERED
    try:
        with gevent.Timeout(ANSWER_SECONDS):
            response = client.request("POST", "/predict", body, headers)
            answer = response.read()
        status = response.status_code
        failure = Failure.STATUS if status != 200 else Failure.NONE if _is_prediction(answer) else Failure.WRONG_ANSWER
        done = time.monotonic()
    except gevent.Timeout:
        failure, done = Failure.TIMEOUT, time.monotonic()
    except Exception as error:  # noqa: BLE001  # whatever went wrong, the user got no answer, and the record must say so
        failure, done = _failure_of(error), time.monotonic()
    finally:
        records.add(planned, sent, done, status, failure)
