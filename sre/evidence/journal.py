"""The journal of a run: what happened, in order, one JSON line per event, each line sealed by the next.

    {"seq": 3, "t": 8123.4, "at": "2026-01-01T12:00:12.000Z", "event": "step", ..., "prev": "<sha256 of the line before>"}

Every line is on disk before `write` returns, so after a crash the journal tells how far the run came. A crash inside a write
can leave a torn last line, without its newline: `read` leaves it out, `torn` returns it, and the next `write` moves it into a
`torn` event, so that nothing is lost and the chain goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from sre.clock import Clock, iso
from sre.errors import EvidenceDamaged
from sre.evidence.codec import plain

FIRST = "0" * 64  # `prev` of the first line
_BLOCK = 65_536
_OWN = frozenset({"seq", "t", "at", "event", "prev"})


class Journal:
    """Appends events. Holds no state but the path: an interrupt between two writes, or a second process, cannot break it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def write(self, event: str, /, **fields: Any) -> None:
        """Append one event and wait until it is on disk.

        Args:
            event: what happened, for example `step`.
            fields: what JSON can hold (see `codec.plain`), none of them named `seq`, `t`, `at`, `event` or `prev`.

        Raises:
            EvidenceDamaged: the last complete line is not a line of a journal.
        """
        if taken := _OWN & fields.keys():
            raise ValueError(f"journal field {min(taken)!r} is the journal's own; choose another name")
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            last, tail = _end(file, size)
            seq, prev = 0, FIRST
            if last is not None:
                seq, prev = self._parsed(file, last)["seq"] + 1, _sha(last)
            if tail:
                file.truncate(size - len(tail))
                torn = self._line(seq, "torn", {"text": tail.decode("utf-8", "replace")}, prev)
                file.write(torn + b"\n")
                seq, prev = seq + 1, _sha(torn)
            file.write(self._line(seq, event, fields, prev) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _parsed(self, file: BinaryIO, last: bytes) -> dict[str, Any]:
        try:
            return _parse(last, self.path.name)
        except EvidenceDamaged:
            file.seek(0)  # only who must name the line counts them all
            number = file.read().count(b"\n")
            return _parse(last, f"{self.path.name} line {number}")

    def _line(self, seq: int, event: str, fields: dict[str, Any], prev: str) -> bytes:
        moment = {"seq": seq, "t": self._clock.now(), "at": iso(self._clock.wall()), "event": event}
        return json.dumps(plain({**moment, **fields, "prev": prev}), allow_nan=False).encode()


def read(path: Path) -> list[dict[str, Any]]:
    """All complete events, in order, once the chain is verified. A torn last line is left out; ask `torn` for it.

    Raises:
        EvidenceDamaged: the file is missing, or a line is altered, missing, added or out of order; the message names it.
    """
    lines, _ = _split(_content(path))
    entries: list[dict[str, Any]] = []
    prev = FIRST
    for number, line in enumerate(lines, 1):
        where = f"{path.name} line {number}"
        entry = _parse(line, where)
        if entry["seq"] != number - 1:
            raise EvidenceDamaged(f"{where} holds event {entry['seq']}, expected {number - 1}: a line is missing or was added")
        if entry["prev"] != prev:
            raise EvidenceDamaged(f"{where} does not follow from the line before it: one of the two was altered")
        entries.append(entry)
        prev = _sha(line)
    return entries


def torn(path: Path) -> str | None:
    """What a crash left of the last line; None when the last line is complete.

    Raises:
        EvidenceDamaged: the file is missing.
    """
    _, tail = _split(_content(path))
    return tail.decode("utf-8", "replace") if tail else None


def problems(path: Path) -> list[str]:
    """What is wrong with a journal, in sentences; empty when it is whole."""
    try:
        read(path)
        tail = torn(path)
    except EvidenceDamaged as damaged:
        return [str(damaged)]
    return [f"{path.name} ends inside a line after {len(tail)} characters: the run was cut short while writing"] if tail else []


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as missing:
        raise EvidenceDamaged(f"{path.name} is missing from {path.parent.name}: the course of the run is unknown") from missing


def _end(file: BinaryIO, size: int) -> tuple[bytes | None, bytes]:
    """The last complete line, None when there is none, and what follows it: no event costs the reading of all before it."""
    content, at = b"", size
    while at and content.count(b"\n") < 2:
        step = min(_BLOCK, at)
        at -= step
        file.seek(at)
        content = file.read(step) + content
    lines, tail = _split(content)
    return (lines[-1] if lines else None), tail


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    *lines, tail = content.split(b"\n")
    return lines, tail


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise EvidenceDamaged(f"{where} is not JSON ({error})") from error
    if not isinstance(entry, dict) or not entry.keys() >= _OWN or not isinstance(entry["seq"], int):
        raise EvidenceDamaged(f"{where} is not an event of a journal")
    return entry


def _sha(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
