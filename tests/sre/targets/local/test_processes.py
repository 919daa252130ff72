from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sre.targets.local import processes

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Begins a process; all of them are gone afterwards."""
    begun: list[subprocess.Popen[bytes]] = []

    def make(*command: str, home: Path | None = None, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **({"SRE_SYSTEM": str(home)} if home else {})}
        begun.append(subprocess.Popen(command or ("sleep", "1000"), env=environment, cwd=cwd, start_new_session=True))
        return begun[-1]

    yield make
    for process in begun:
        process.kill()
        process.wait()


def test_a_process_is_known_by_pid_and_start(start: Start) -> None:
    process = start()
    known = processes.identity(process.pid)
    assert known.startswith(f"{process.pid}@")
    assert processes.alive(known)
    assert not processes.alive(f"{process.pid}@1.00")
    assert not processes.alive("")


def test_a_recycled_pid_is_never_signalled(start: Start) -> None:
    process = start()
    assert not processes.signal_process(f"{process.pid}@1.00", signal.SIGKILL)
    assert process.poll() is None
    assert processes.signal_process(processes.identity(process.pid), signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_zombie_and_a_collected_process_are_not_alive(start: Start) -> None:
    process = start()
    known = processes.identity(process.pid)
    process.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert not processes.alive(known)
    process.wait()
    assert not processes.alive(known)
    assert processes.identity(process.pid) == ""
    assert not processes.signal_process(known, signal.SIGTERM)


def test_one_that_goes_between_the_look_and_the_signal_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_pid: int, _number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert not processes.signal_process(processes.identity(os.getpid()), signal.SIGTERM)


def test_a_system_is_what_carries_its_home_or_that_of_a_place_below_it(start: Start, tmp_path: Path) -> None:
    home, beside = tmp_path / "home", tmp_path / "home-2"
    own, restored = start(home=home), start(home=home / "restored" / "a")
    start(home=beside)
    start()
    assert {process.pid for process in processes.of_system(home)} == {own.pid, restored.pid}


def test_a_home_reached_by_a_link_is_the_same_home(start: Start, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    process = start(home=tmp_path / "link")
    for home in (tmp_path / "real", tmp_path / "link"):
        assert [found.pid for found in processes.of_system(home)] == [process.pid]


def test_programs_that_overwrite_their_environment_are_known_by_their_folder(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    nginx = tmp_path / "nginx"
    nginx.symlink_to("/bin/sleep")
    found = start(str(nginx), "1000", cwd=home)
    start(str(nginx), "1000", cwd=tmp_path)
    start(cwd=home)
    deadline = time.monotonic() + 10
    while [process.pid for process in processes.of_system(home)] != [found.pid]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_one_who_asks_is_not_part_of_the_answer(tmp_path: Path) -> None:
    script = (
        f"from pathlib import Path; from sre.targets.local import processes; print(processes.of_system(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, "SRE_SYSTEM": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_sweep_ends_the_willing_the_deaf_and_the_frozen(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    willing, frozen = start(home=home), start(home=home)
    deaf = start("sh", "-c", f"trap '' QUIT; echo > {tmp_path}/deaf; while :; do sleep 0.05; done", home=home)
    deadline = time.monotonic() + 10
    while not (tmp_path / "deaf").exists():
        assert time.monotonic() < deadline
    os.kill(frozen.pid, signal.SIGSTOP)
    assert {"sh", "sleep"} <= set(processes.sweep(home, deadline_s=0.3))
    assert [process.wait(10) for process in (willing, frozen, deaf)] == [-signal.SIGQUIT, -signal.SIGQUIT, -signal.SIGKILL]
    assert processes.sweep(home) == []
