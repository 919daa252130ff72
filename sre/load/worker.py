"""Runs the load generator as a child process and vouches for its recording. Its exit status is not asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import sre
from sre.errors import StepFailed
from sre.load.job import ANSWER_SECONDS, NEXT, Job
from sre.measure.samples import HEADER_NAME, RECORDS_NAME, SAMPLE, Failure
from sre.readings import Endpoints, LoadPlan
from sre.targets.base import Load

LOG_NAME = "generator.log"
START_SECONDS = 30.0  # importing Locust on a busy machine
GRACE_SECONDS = ANSWER_SECONDS + 20.0  # the last answers, then the recording
TAKEN_SECONDS = 10.0  # it looks every half second
_POLL_SECONDS = 0.05
_LAST_WORDS = 800
_KEY = "api-key"


class LocustLoad:
    """A generator process that has begun to send. Made by `start`; see `targets.base.Load`."""

    def __init__(self, process: subprocess.Popen[bytes], plan: LoadPlan, folder: Path, keys: Path | None = None) -> None:
        self._process = process
        self._plan = plan
        self._folder = folder
        self._keys = keys
        self._read = 0
        self._counts = np.zeros(len(Failure), dtype=np.int64)

    def running(self) -> bool:
        """Whether it still sends or waits for answers."""
        return self._process.poll() is None

    def progress(self) -> str:
        """For example `12,034 answered or given up, 3 failed`."""
        self._count_new_records()
        return f"{self._counts.sum():,} requests, {self._counts.sum() - self._counts[Failure.NONE]:,} failed"

    def show(self, key: str) -> None:
        """Hand the generator another key, and wait until it has taken it.

        Raises:
            StepFailed: it shows the key of all drills, does not run, or did not take this one in time.
        """
        if self._keys is None:
            raise StepFailed("this load shows the key of all drills; begin one with a key of its own to change that")
        if not self.running():
            raise StepFailed("the load has ended, so nobody is left to show a key")
        following = self._keys / f"{_KEY}{NEXT}"
        # Under its name only once it is whole.
        _write_key(self._keys / "fresh", key).rename(following)
        if not _until(lambda: not following.exists() or not self.running(), TAKEN_SECONDS) or following.exists():
            raise StepFailed(f"the load generator did not take another key within {TAKEN_SECONDS:.0f} s ({self.progress()})")

    def stop(self) -> None:
        """End it now; returns once the recording is written. Idempotent.

        Raises:
            StepFailed: the generator died without a recording, or did not end in time; the message holds its last words.
        """
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        self._end_within(GRACE_SECONDS)

    def wait(self) -> None:
        """Wait for the schedule's end and the recording. Raises as `stop` does."""
        self._end_within(self._plan.seconds + GRACE_SECONDS)

    def started(self) -> None:
        """Wait until it sends.

        Raises:
            StepFailed: it died before, or did not begin in time.
        """
        records = self._folder / RECORDS_NAME
        if not _until(lambda: records.exists() or not self.running(), START_SECONDS) or not records.exists():
            self._fail(f"did not begin to send within {START_SECONDS:.0f} s")

    def _end_within(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._fail(f"did not end within {seconds:.0f} s ({self.progress()})")
        self._forget_keys()
        if not (self._folder / HEADER_NAME).exists():
            self._fail("died without a recording")

    def _fail(self, what: str) -> None:
        self._process.kill()
        self._process.wait()
        self._forget_keys()
        log = self._folder / LOG_NAME
        # Locust ends with two tables, empty here, that would push the reason out of sight.
        words = log.read_text(encoding="utf-8", errors="replace").partition("\nType ")[0].strip()[-_LAST_WORDS:]
        raise StepFailed(f"the load generator {what}; last words: {words or 'none'}; see {log}")

    def _forget_keys(self) -> None:
        if self._keys is not None:
            shutil.rmtree(self._keys, ignore_errors=True)

    def _count_new_records(self) -> None:
        with (self._folder / RECORDS_NAME).open("rb") as file:
            file.seek(self._read)
            raw = file.read()
        whole = len(raw) - len(raw) % SAMPLE.itemsize
        self._read += whole
        self._counts += np.bincount(np.frombuffer(raw[:whole], dtype=SAMPLE)["failure"], minlength=len(Failure))


def start(  # noqa: PLR0913 - whom to ask, with what, when
    endpoints: Endpoints, plan: LoadPlan, folder: Path, bodies: Path, *,
    pin_cpu: int | None = None, key: str | None = None, niceness: int = 0,
) -> Load:  # fmt: skip
    """Begin to send `plan` through the ingress; returns once the first request is due.

    Args:
        endpoints: ingress, its certificate authority and the key file are used.
        plan: the schedule.
        folder: gets `samples.bin`, `samples.json` and `generator.log`; made if missing, and must hold no recording yet.
        bodies: folder of .jpg and .png files to send in turn.
        pin_cpu: run the generator on this CPU only.
        key: API key to show; that of the key file when None. Only then can the load be given another later.
        niceness: of the generator and its session, where this account may; 0 leaves both as they are.

    Raises:
        StepFailed: the generator died before it sent anything; the message holds its last words.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RECORDS_NAME).exists() or (folder / HEADER_NAME).exists():
        raise StepFailed(f"{folder} holds a recording already; give each load a folder of its own")
    keys = Path(tempfile.mkdtemp(prefix="sre-load-")) if key else None
    key_file = endpoints.api_key_file.resolve() if keys is None or key is None else _write_key(keys / _KEY, key)
    job = Job(
        rate=plan.rate, seconds=plan.seconds, seed=plan.seed, folder=str(folder), bodies=str(bodies.resolve()),
        ca_file=str(endpoints.ca_file.resolve()), api_key_file=str(key_file),
        parent=os.getpid(), pin_cpu=pin_cpu, niceness=niceness,
    )  # fmt: skip
    users = Path(__file__).with_name("users.py")
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(users), "--host", endpoints.ingress,
        "--headless", "--users", "1", "--spawn-rate", "1", "--only-summary", "--loglevel", "WARNING",
        "--stop-timeout", str(int(GRACE_SECONDS)),
    ]  # fmt: skip
    with (folder / LOG_NAME).open("wb") as log:
        # A session of its own: Ctrl-C reaches the drill first, which then stops the load.
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(job, folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    load = LocustLoad(process, plan, folder, keys)
    load.started()
    return load


def _write_key(file: Path, key: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(key, encoding="ascii")
    return file


def _environment(job: Job, home: Path) -> dict[str, str]:
    # Locust also reads LOCUST_* and configuration files in HOME and the working folder; a user's own must not change a drill.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    root = str(Path(sre.__file__).resolve().parents[1])
    return kept | {"HOME": str(home), "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"} | job.to_environment()


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
