"""Processes by identity, so that a recycled pid is never mistaken for ours, and the sweep that leaves none behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

# PostgreSQL and nginx overwrite the memory in which the kernel finds their environment; they are known by their working folder.
_OVERWRITE_ENVIRONMENT = ("postgres", "nginx")


def identity(pid: int) -> str:
    """`PID@START`: changes when the pid is used again. Empty when there is no such process."""
    try:
        return f"{pid}@{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def alive(process: str) -> bool:
    """Whether the process of that identity still runs; a zombie does not."""
    if not process:
        return False
    pid = int(process.partition("@")[0])
    try:
        return identity(pid) == process and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def signal_process(process: str, number: signal.Signals) -> bool:
    """Send a signal to exactly that process; False when it is gone."""
    if not alive(process):
        return False
    try:
        os.kill(int(process.partition("@")[0]), number)
    except ProcessLookupError:
        return False
    return True


def of_system(home: Path) -> list[psutil.Process]:
    """Every process that belongs to the system of that home, the callers of this function left out."""
    own, home = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}, home.resolve()
    return [process for process in psutil.process_iter() if process.pid not in own and _belongs(process, home)]


def sweep(home: Path, deadline_s: float = 10.0) -> list[str]:
    """End every process of a system: first politely enough for PostgreSQL to release what it holds, then for certain.

    Args:
        home: of the system.
        deadline_s: how long each of the two rounds may take.

    Returns:
        Names of the processes that were still there, for the one who asks.
    """
    found = of_system(home)
    names = sorted(process.name() for process in found)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        # A stopped process acts on no signal but SIGKILL.
        _send(found, signal.SIGCONT)
        _send(found, number)
        # Not `psutil.wait_procs`: it waits for a zombie that its parent is slow to collect.
        deadline = time.monotonic() + deadline_s
        while (found := of_system(home)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not found:
            break
    return names


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _belongs(process: psutil.Process, home: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # A restored place lies below the home of the system whose backup it holds, and ends with it.
        if Path(process.environ().get("SRE_SYSTEM", "/")).resolve().is_relative_to(home):
            return True
        if process.name() not in _OVERWRITE_ENVIRONMENT:
            return False
        return Path(process.cwd()).is_relative_to(home)
    except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError, FileNotFoundError):
        return False
