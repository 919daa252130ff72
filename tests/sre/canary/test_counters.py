from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.canary import counters
from sre.canary.counters import Arm
from sre.canary.counting import Counting
from sre.canary.decide import judge
from sre.canary.reading import Reading
from sre.canary.source import Source
from sre.judges.canary.decision import Action
from sre.judges.canary.observation import Crashes, Events, Histogram, Interval, Trouble
from sre.probes.answers import Series
from sre.targets.local.programs import find
from tests.sre.canary.histories import make_plan

PROGRAM = Path(__file__).with_name("counting_process.py")
PLAN = make_plan()
TARGET = ("s", "a:1")


def arm() -> Arm:
    return Arm({TARGET: ()}, {TARGET: 10.0}, {TARGET: ((0.0, 1.0),)}, "canary", 10.0, 2.0)


def test_a_start_time_that_changes_is_a_restart_and_the_first_one_is_none() -> None:
    def reading(*values: tuple[float, str]) -> Reading:
        return Reading("p", "p", 10.0, (Series({"job": "s", "instance": "a:1"}, values),))

    first, known = counters.restarts(arm(), reading((8.5, "100"), (9.5, "100")), {}, 5.0)
    assert (first, known) == (0, {TARGET: (9.5, 100.0)})
    again, _ = counters.restarts(arm(), reading((8.5, "90"), (9.5, "100"), (9.8, "200"), (9.9, "300")), known, 9.6)
    assert again == 2


class Watched:
    """Two real processes, and a real Prometheus that scrapes them every second."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.ports = {"canary": _port(), "control": _port()}
        self.processes = {track: self.start(track) for track in self.ports}
        self.url = f"http://127.0.0.1:{(port := _port())}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "s", "static_configs": [
                {"targets": [f"127.0.0.1:{number}"], "labels": {"track": track}} for track, number in self.ports.items()
            ]}],
        }  # fmt: skip
        (folder / "prometheus.yml").write_text(json.dumps(config))
        found = find("prometheus", tools)
        command = [str(found.path), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                   f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
        self.server = subprocess.Popen(command, env={**os.environ, **found.environment}, stderr=subprocess.DEVNULL)

    def start(self, track: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAM), str(self.ports[track])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def tell(self, track: str, order: str) -> None:
        stdin = self.processes[track].stdin
        assert stdin is not None
        stdin.write(order + "\n")

    def busy(self, track: str) -> bool:
        """Whether the last order is still being carried out; may be asked until it is not."""
        stdout = self.processes[track].stdout
        assert stdout is not None
        return not (select.select([stdout], [], [], 0)[0] and stdout.readline() == "done\n")

    def kill(self, track: str) -> None:
        """SIGKILL."""
        process = self.processes[track]
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        for track in self.processes:
            self.kill(track)
        self.server.terminate()
        self.server.wait(10)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def watched(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    one = Watched(tmp_path_factory.mktemp("watched"), programs)
    yield one
    one.close()


class Ledger:
    """What looks have counted so far, by arm."""

    def __init__(self, watched: Watched) -> None:
        self.source = Source(PLAN, watched.url)
        self.totals: dict[str, Counter[str]] = {"canary": Counter(), "control": Counter()}
        deadline = time.monotonic() + 60
        while (found := Counting(PLAN, time.time()).look(self.source.look(time.time() - 4, 0))).missing:
            assert time.monotonic() < deadline, found.missing
            time.sleep(0.5)
        self.start = self.end = found.end
        self.counting = Counting(PLAN, self.start)
        # A scrape that began before the start and is under way may show what is counted after it.
        self.settle()

    def look(self) -> Interval:
        """Count once more."""
        interval = self.counting.look(self.source.look(self.counting.since, 0))
        self.end = interval.end
        requests = {"canary": interval.canary_requests, "control": interval.control_requests}
        for track, total in self.totals.items():
            total["requests"] += requests[track]
            for observation in interval.observations.values():
                match observation:
                    case Events():
                        total["errors"] += getattr(observation, track)
                    case Crashes():
                        total["crashes"] += getattr(observation, track)
                    case Histogram():
                        fast, _, slow = getattr(observation, track)
                        total["fast"] += fast
                        total["slow"] += slow
                    case _:
                        pass
        return interval

    def settle(self) -> None:
        """Look until everything that happened before was scraped, counted and whole."""
        after, deadline = time.time(), time.monotonic() + 60
        while (interval := self.look()).missing or interval.end < after + 2.5:
            assert time.monotonic() < deadline, interval.missing
            time.sleep(0.5)


def test_every_scraped_event_is_counted_to_the_event_over_restarts(watched: Watched) -> None:
    ledger = Ledger(watched)
    truth: dict[str, Counter[str]] = {"canary": Counter(), "control": Counter()}
    for life in range(4):
        for status, number in (("200", 115_000 + 17 * life), ("500", 10_000 + life)):
            for track, total in truth.items():
                watched.tell(track, f"count {status} {number}")
                total["requests"] += number
                total["errors" if status == "500" else "fast"] += number
            for track in truth:
                while watched.busy(track):
                    ledger.look()
                    time.sleep(0.2)
        ledger.settle()
        if life < 3:
            track = ("canary", "control")[life % 2]
            # What is counted from here on was never scraped, so nobody can know of it.
            for order in ("hide", f"count 500 {100 * life}"):
                watched.tell(track, order)
                while watched.busy(track):
                    time.sleep(0.01)
            watched.kill(track)
            watched.processes[track] = watched.start(track)
            truth[track]["crashes"] += 1
            ledger.settle()
    for track, total in truth.items():
        total["slow"] = total["errors"]
        assert {name: ledger.totals[track][name] for name in total} == dict(total)
    assert sum(total["requests"] for total in ledger.totals.values()) > 1_000_000
    # The one decision at an instant counts the same. Its reason is whatever was decided first: the crashes, or errors that one
    # arm's scrape showed before the other's.
    standing = judge(PLAN, watched.url, at=ledger.end, since=ledger.start)
    metrics = {metric.name: metric for metric in standing.metrics}
    assert metrics["errors"].n == sum(total["errors"] for total in truth.values())
    crashes = metrics["crashes"]
    assert (crashes.canary, crashes.control) == tuple(truth[track]["crashes"] for track in ("canary", "control")) == (2, 1)
    assert standing.action is Action.ROLLBACK


def test_a_target_that_is_killed_is_down(watched: Watched) -> None:
    ledger = Ledger(watched)
    watched.kill("control")
    deadline = time.monotonic() + 60
    while not (found := {one.trouble for one in ledger.look().missing}):
        assert time.monotonic() < deadline, "Prometheus does not notice"
        time.sleep(0.5)
    assert found == {Trouble.TARGET_DOWN}
    watched.processes["control"] = watched.start("control")
    ledger.settle()
    assert ledger.totals["control"]["crashes"] == 1
