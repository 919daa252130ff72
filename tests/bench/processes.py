"""Servers as trees of processes: started, measured from /proc, and always ended by pid."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STOP_WITHIN_S = 8.0
# As the local target's: whoever sends the load stands for users elsewhere and must not be starved by what it measures.
NICENESS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to start.

    Attributes:
        arguments: program first.
        environment: added to ours.
        folder: to start in.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path


class Tree:
    """A started process and all that it started.

    Args:
        command: what to start.
        log: gets its output.
    """

    def __init__(self, command: Command, log: Path) -> None:
        with log.open("ab") as out:
            self._root = subprocess.Popen(
                list(command.arguments), cwd=command.folder, env={**os.environ, **command.environment}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True, preexec_fn=_give_way,  # noqa: PLW1509 - no threads here
            )  # fmt: skip
        self._seen: dict[int, psutil.Process] = {}

    def ended(self) -> int | None:
        """The exit status, None while it runs."""
        return self._root.poll()

    def processes(self) -> list[psutil.Process]:
        """All of them, the root first."""
        found = family(self._root.pid)
        self._seen |= {process.pid: process for process in found}
        return found

    def stop(self) -> None:
        """SIGTERM to the root, then SIGKILL to whatever is left."""
        self.processes()
        with suppress(ProcessLookupError):
            self._root.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._root.wait(STOP_WITHIN_S)
        # psutil refuses to signal a pid that was given to another process since
        for process in (*self._seen.values(), *family(self._root.pid)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._root.wait(STOP_WITHIN_S)


def _give_way() -> None:
    os.nice(NICENESS)
    # Where the kernel shares by session first, niceness counts only within one; each of these has its own.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS), encoding="ascii")


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of processes and of the children that they have buried."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_mb(processes: Sequence[psutil.Process]) -> float:
    """Proportional set size: each shared page is counted once, split among those that map it. Megabytes of 10^6 bytes."""
    total = 0
    for process in processes:
        with suppress(OSError):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            if match := re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE):
                total += int(match[1]) * 1024
    return total / 1e6


def loads(process: psutil.Process, name: str) -> bool:
    """Whether a library whose file name holds `name` is mapped into the process."""
    with suppress(OSError):
        return name in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
    return False


@dataclass(frozen=True, slots=True)
class Busy:
    """CPU seconds of the whole machine: user, nice, system and what the hypervisor took."""

    seconds: float
    at: float

    @classmethod
    def now(cls) -> Busy:
        """The counters as they are; soft interrupts are left out, they are the load's own packets on loopback."""
        times = psutil.cpu_times()
        return cls(times.user + times.nice + times.system + times.steal, time.monotonic())


def free_ports(count: int) -> list[int]:
    """Ports of loopback, each followed by two more on which nothing listens now: MLServer takes three.

    Below the local target's blocks and below Linux's range for outgoing connections, so that no client takes one meanwhile.
    """
    found: list[int] = []
    for base in random.sample(range(12_000, 19_990, 10), 700):
        if all(_free(base + offset) for offset in range(3)):
            found.append(base)
            if len(found) == count:
                return found
    raise OSError("no free ports between 12000 and 20000")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
