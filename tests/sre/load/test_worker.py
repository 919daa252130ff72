"""How a load begins and ends, with the real generator as a child process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sre.errors import EvidenceDamaged, StepFailed
from sre.load import worker
from sre.measure import samples
from sre.readings import Endpoints, LoadPlan
from sre.targets.base import Load

MakeEndpoints = Callable[..., Endpoints]
Launch = Callable[..., Load]
PLAN = LoadPlan(rate=200.0, seconds=2.0, seed=7)
ENDLESS = LoadPlan(rate=50.0, seconds=600.0, seed=7)


def test_stop_leaves_a_whole_recording_of_what_was_planned_so_far(server: Any, launch: Launch, folder: Path) -> None:
    answers, port = server
    load = launch(port, ENDLESS)
    wait_for(lambda: len(answers.seen) >= 20)
    load.stop()
    load.stop()
    recording, records = samples.read(folder)
    assert recording.stopped
    assert recording.planned == len(records) >= 20
    assert records["planned"].max() < recording.ended


def test_stop_right_after_the_start_leaves_a_recording(server: Any, launch: Launch, folder: Path) -> None:
    _, port = server
    load = launch(port, ENDLESS)
    load.stop()
    recording, records = samples.read(folder)
    assert recording.planned == len(records)


def test_a_killed_generator_proves_nothing(launch: Launch, closed_port: int, folder: Path) -> None:
    load = launch(closed_port, ENDLESS)
    (child,) = [child for child in psutil.Process().children() if "locust" in child.cmdline()]
    child.kill()
    with pytest.raises(StepFailed, match="died without a recording"):
        load.wait()
    with pytest.raises(StepFailed, match="died without a recording"):
        load.stop()
    with pytest.raises(EvidenceDamaged):
        samples.read(folder)


def test_a_generator_that_cannot_begin_tells_why(make_endpoints: MakeEndpoints, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(StepFailed, match=r"holds no \.jpg or \.png file"):
        worker.start(make_endpoints(1), PLAN, tmp_path / "load", empty).wait()


def test_a_folder_is_used_once(launch: Launch, folder: Path) -> None:
    folder.mkdir()
    (folder / "samples.bin").touch()
    with pytest.raises(StepFailed, match="holds a recording already"):
        launch(1, PLAN)


def test_users_move_to_another_key_and_no_key_is_left(server: Any, launch: Launch, folder: Path) -> None:
    answers, port = server
    load = launch(port, ENDLESS, key="first")
    keys = {Path(file).parent for file in _key_files()}
    wait_for(lambda: len(answers.seen) >= 20)
    assert {key for key, _, _ in answers.seen} == {"first"}
    assert {path.stat().st_mode & 0o777 for one in keys for path in one.iterdir()} == {0o600}
    load.show("second")
    moved = len(answers.seen)
    wait_for(lambda: len(answers.seen) >= moved + 20)
    load.stop()
    # Those that had left before are under way when it returns.
    assert {key for key, _, _ in answers.seen[moved + 5 :]} == {"second"}
    assert not any(one.exists() for one in keys)
    assert not any(b"first" in path.read_bytes() for path in folder.iterdir())
    with pytest.raises(StepFailed, match="the load has ended"):
        load.show("third")


def test_a_load_with_everybodys_key_keeps_it(server: Any, launch: Launch) -> None:
    _, port = server
    load = launch(port, ENDLESS)
    with pytest.raises(StepFailed, match="shows the key of all drills"):
        load.show("another")
    load.stop()


def _key_files() -> list[str]:
    (child,) = [child for child in psutil.Process().children() if "locust" in child.cmdline()]
    return [json.loads(child.environ()["SRE_LOAD"])["api_key_file"]]


STARTER = """
import sys
from pathlib import Path
from sre.load import worker
from sre.readings import Endpoints, LoadPlan
port, ca, key, folder, bodies = sys.argv[1:]
endpoints = Endpoints(f"https://127.0.0.1:{port}", Path(ca), Path(key), "", "", "", "", Path(), Path(bodies))
load = worker.start(endpoints, LoadPlan(50.0, 600.0, 1), Path(folder), Path(bodies))
print(load._process.pid, flush=True)
load.wait()
"""


def test_the_generator_ends_when_its_parent_is_killed(
    make_endpoints: MakeEndpoints, closed_port: int, folder: Path, bodies: Path
) -> None:
    endpoints = make_endpoints(closed_port)
    arguments = [str(closed_port), str(endpoints.ca_file), str(endpoints.api_key_file), str(folder), str(bodies)]
    with subprocess.Popen([sys.executable, "-c", STARTER, *arguments], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        generator = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not generator.is_running() or generator.status() == psutil.STATUS_ZOMBIE)
    assert samples.read(folder)[0].stopped


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
