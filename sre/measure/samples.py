"""Raw samples: one fixed-size record for each planned request, as the client saw it.

A recording is two files side by side. `samples.bin` holds packed little-endian records of `SAMPLE`; `samples.json` says how
they came about and is written last, so a recording without it was cut short and proves nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sre.errors import EvidenceDamaged

SCHEMA = "sre.samples/1"
RECORDS_NAME = "samples.bin"
HEADER_NAME = "samples.json"

# planned, sent, done: monotonic seconds of this machine; NaN for what never happened before the generator stopped.
# status: HTTP status, 0 for no answer. failure: a member of Failure.
SAMPLE = np.dtype([("planned", "<f8"), ("sent", "<f8"), ("done", "<f8"), ("status", "<u2"), ("failure", "u1")])

Samples = npt.NDArray[np.void]


class Failure(IntEnum):
    """Why a request counts as failed from the user's point of view."""

    NONE = 0
    STATUS = 1
    CONNECT = 2
    TIMEOUT = 3
    TLS = 4
    WRONG_ANSWER = 5
    UNSENT = 6
    UNANSWERED = 7
    OTHER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """How a set of samples came about.

    Attributes:
        rate: planned arrivals, per second.
        seconds: planned length of the schedule, s.
        seed: of the schedule.
        started: monotonic s of planned time zero.
        started_wall: the same instant, seconds since the epoch.
        ended: monotonic s at which the generator stopped.
        cpu_seconds: CPU time that the generator used while sending, s.
        planned: arrivals in the schedule up to the moment it ended or was stopped.
        stopped: whether it was told to stop before the schedule's end.
        tool: name and version of the generator.
    """

    rate: float
    seconds: float
    seed: int
    started: float
    started_wall: float
    ended: float
    cpu_seconds: float
    planned: int
    stopped: bool
    tool: str


def write_header(folder: Path, recording: Recording) -> None:
    """Write `samples.json`: the last act of a generator."""
    document = {"schema": SCHEMA, **asdict(recording)}
    (folder / HEADER_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[Recording, Samples]:
    """Read a recording, samples ordered by planned time.

    Raises:
        EvidenceDamaged: a file is missing, cut short, or of another schema.
    """
    header, records = folder / HEADER_NAME, folder / RECORDS_NAME
    try:
        document: dict[str, Any] = json.loads(header.read_text(encoding="utf-8"))
        raw = records.read_bytes()
    except FileNotFoundError as missing:
        raise EvidenceDamaged(f"{missing.filename} is missing: the load generator did not finish its recording") from missing
    except ValueError as error:
        raise EvidenceDamaged(f"{header} is not JSON ({error})") from error
    if document.pop("schema", None) != SCHEMA:
        raise EvidenceDamaged(f"{header} is not of schema {SCHEMA}")
    if len(raw) % SAMPLE.itemsize:
        raise EvidenceDamaged(f"{records} ends inside a record: {len(raw)} bytes, {SAMPLE.itemsize} each")
    samples = np.frombuffer(raw, dtype=SAMPLE)
    try:
        recording = Recording(**document)
    except TypeError as error:
        raise EvidenceDamaged(f"{header} does not describe a recording ({error})") from error
    return recording, samples[np.argsort(samples["planned"], kind="stable")]
