"""Starting a subject, making sure that it answers right, and closed-loop rounds with wrk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import StatisticsError
from typing import Any

import httpx
import psutil

from tests.bench import bare
from tests.bench.figures import Results, Round, Row
from tests.bench.processes import Busy, Tree, cpu_s, family, loads, pss_mb
from tests.bench.servers import Subject, probabilities

LUA = Path(__file__).parent / "wrk.lua"
CLASSES = 10
READY_WITHIN_S = 120.0
CALM_WITHIN_S = 20.0
OTHERS_CORES = 0.15
LARGEST_DIFFERENCE = 1e-3


class Broken(Exception):
    """A server did not start, or answers wrongly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How to measure.

    Attributes:
        root: `.bench`: environments, homes, logs.
        seconds: of one round.
        rounds: of each row.
        tries: how often a round is measured at most, while others disturb it.
        connections: of wrk.
        backing: the process whose tree is database, registry and monitoring; None without a system.
        say: receives one line per step.
    """

    root: Path
    seconds: int
    rounds: int
    tries: int
    connections: int = 32
    backing: psutil.Process | None = None
    say: Callable[[str], None]
    results: Results = field(default_factory=Results)


@contextmanager
def running(subject: Subject, bench: Bench) -> Iterator[list[Tree]]:
    """The subject's processes, ready, calm and answering right; ended at the end, whatever happens.

    Raises:
        Broken: it ended, was not ready in time, or its probabilities are not the graph's.
    """
    folder = bench.root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{subject.key.replace('/', '-')}.log"
    log.write_bytes(b"")
    trees: list[Tree] = []
    try:
        for command in subject.commands:
            trees.append(Tree(command, log))  # noqa: PERF401 - each is known before the next starts, so that all are ended
        for port in subject.ports:
            _wait_ready(subject, port, trees, log)
        _wait_calm(trees)
        yield trees
    finally:
        for tree in trees:
            tree.stop()


def _wait_ready(subject: Subject, port: int, trees: Sequence[Tree], log: Path) -> None:
    deadline, last = time.monotonic() + READY_WITHIN_S, "nothing yet"
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < deadline:
            if any(tree.ended() is not None for tree in trees):
                raise Broken(f"{subject.key} ended; its last words: {_tail(log)}")
            try:
                url = f"http://127.0.0.1:{port}{subject.asked.path}"
                answer = client.post(url, content=subject.asked.body, headers=dict(subject.asked.headers))
            except httpx.TransportError as error:
                last = type(error).__name__
            else:
                if answer.status_code == httpx.codes.OK:
                    _check(subject, answer.json())
                    return
                last = f"status {answer.status_code}"
            time.sleep(0.2)
    raise Broken(f"{subject.key} was not ready within {READY_WITHIN_S:.0f} s (last: {last}); its last words: {_tail(log)}")


def _check(subject: Subject, document: Any) -> None:
    """Nobody is fast by answering something else."""
    if not subject.exact:
        return
    found = probabilities(document, CLASSES)
    expected = bare.engine(subject.model.path)(bare.preprocess(subject.model.side)(subject.model.jpeg))[0]
    if found is None or max(abs(a - b) for a, b in zip(found, expected.tolist(), strict=True)) > LARGEST_DIFFERENCE:
        raise Broken(f"{subject.key} answers {found}, the graph says {expected.round(4).tolist()}")


def _wait_calm(trees: Sequence[Tree]) -> None:
    """Until the start is over: the second worker loads while the first already answers."""
    deadline = time.monotonic() + CALM_WITHIN_S
    while time.monotonic() < deadline:
        before = sum(cpu_s(tree.processes()) for tree in trees)
        time.sleep(0.7)
        if sum(cpu_s(tree.processes()) for tree in trees) - before < 0.07:
            return


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])[-500:]


def wrk(subject: Subject, bench: Bench, seconds: int, connections: int) -> dict[str, float]:
    """One closed-loop load: requests, seconds, p50_ms, p95_ms, p99_ms, errors.

    Raises:
        Broken: wrk is not there or says nothing.
    """
    program = shutil.which("wrk")
    if program is None:
        raise Broken("wrk is not on PATH; install Debian's package wrk")
    folder = bench.root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    body, headers = folder / "body", folder / "headers"
    body.write_bytes(subject.asked.body)
    headers.write_text("".join(f"{name}: {value}\n" for name, value in subject.asked.headers.items()), encoding="utf-8")
    environment = {"BENCH_BODY": str(body), "BENCH_HEADERS": str(headers), "BENCH_PORTS": " ".join(map(str, subject.ports))}
    arguments = [program, f"-t{len(subject.ports)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(LUA)]
    url = f"http://127.0.0.1:{subject.ports[0]}{subject.asked.path}"
    done = subprocess.run(
        [*arguments, url], env={**os.environ, **environment}, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise Broken(f"wrk said nothing of {subject.key}: {(done.stderr or done.stdout).strip()[-300:]}")
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return found


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds between two looks: of the servers, of what backs them, of everybody else."""

    server: float
    backing: float
    others: float
    seconds: float


@contextmanager
def watched(trees: Sequence[Tree], bench: Bench) -> Iterator[Callable[[], Used]]:
    """Look at all CPU counters now; what is yielded looks again and says the difference."""

    def look() -> tuple[float, float, float, Busy]:
        ours = os.times()
        own = ours.user + ours.system + ours.children_user + ours.children_system
        backing = cpu_s(family(bench.backing.pid)) if bench.backing else 0.0
        return sum(cpu_s(tree.processes()) for tree in trees), backing, own, Busy.now()

    before = look()

    def used() -> Used:
        after = look()
        server, backing, own = (now - then for now, then in zip(after[:3], before[:3], strict=True))
        busy, seconds = after[3].seconds - before[3].seconds, after[3].at - before[3].at
        return Used(server, backing, max(0.0, busy - server - backing - own), seconds)

    yield used


def one_round(subject: Subject, bench: Bench, trees: Sequence[Tree]) -> Round:
    """Load for some seconds; again while others disturb it, a bounded number of times."""
    wrk(subject, bench, 1, bench.connections)
    for tries in range(1, bench.tries + 1):
        with watched(trees, bench) as used:
            found = wrk(subject, bench, bench.seconds, bench.connections)
            spent = used()
        right = found["requests"] - found["errors"]
        if right <= 0:
            raise Broken(f"{subject.key}: {found['requests']:.0f} requests, {found['errors']:.0f} errors")
        measured = Round(
            rps=right / found["seconds"], p50_ms=found["p50_ms"], p95_ms=found["p95_ms"], p99_ms=found["p99_ms"],
            cpu_us=spent.server / right * 1e6, errors=int(found["errors"]),
            pss_mb=sum(pss_mb(tree.processes()) for tree in trees),
            backing_cores=spent.backing / spent.seconds, others_cores=spent.others / spent.seconds, tries=tries,
        )  # fmt: skip
        if measured.others_cores <= OTHERS_CORES or bench.tries == 1:
            break
        bench.say(f"  others used {measured.others_cores:.2f} cores, {'again' if tries < bench.tries else 'kept all the same'}")
        time.sleep(min(3, bench.seconds))  # what disturbs is often short
    return measured


def rows(subjects: Sequence[Callable[[], Subject]], bench: Bench) -> None:
    """Measure every subject in interleaved rounds: each round starts each server anew.

    Args:
        subjects: each makes its subject on ports that are free at that moment.
        bench: gets the rows; a subject that is broken keeps why and is left out of later rounds.
    """
    for number in range(1, bench.rounds + 1):
        for make in subjects:
            subject = make()
            row = bench.results.rows.setdefault(subject.key, Row(subject.key, subject.title))
            if row.failed:
                continue
            try:
                with running(subject, bench) as trees:
                    found = one_round(subject, bench, trees)
                    _note_torch(subject, bench, trees)
            except (Broken, httpx.HTTPError, subprocess.SubprocessError, StatisticsError) as error:
                row.failed = str(error)
                bench.say(f"round {number}  {subject.key}: FAILED {error}")
                continue
            row.rounds.append(found)
            bench.say(
                f"round {number}  {subject.key:<32} {found.rps:>8,.0f}/s  P99 {found.p99_ms:>6.1f} ms  {found.cpu_us:>6,.0f} us"
                f"  {found.pss_mb:>5,.0f} MB  others {found.others_cores:.2f}{f'  errors {found.errors}' if found.errors else ''}"
            )
    measured = [(row.key, item) for row in bench.results.rows.values() for item in row.rounds]
    if disturbed := [(key, item.others_cores) for key, item in measured if item.others_cores > OTHERS_CORES]:
        names = ", ".join(sorted({key for key, _ in disturbed}))
        worst = max(cores for _, cores in disturbed)
        bench.results.remarks.append(
            f"in {len(disturbed)} of {len(measured)} rounds others used more than {OTHERS_CORES} cores (up to {worst:.2f}) "
            f"after {bench.tries} tries, so they say little: {names}"
        )
    if again := sum(item.tries - 1 for _, item in measured):
        bench.results.remarks.append(f"{again} rounds were measured again because others used more than {OTHERS_CORES} cores")


def _note_torch(subject: Subject, bench: Bench, trees: Sequence[Tree]) -> None:
    if "/ours/" in subject.key:
        count = sum(loads(process, "libtorch") for tree in trees for process in tree.processes())
        bench.results.figures["processes with torch"] = max(count, bench.results.figures.get("processes with torch", 0))


def with_backing(bench: Bench, backing: psutil.Process) -> Bench:
    """The same bench beside a begun system."""
    return replace(bench, backing=backing)
