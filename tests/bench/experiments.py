"""Measurements that are not closed-loop rows: stages alone, preprocessing, starts, open loop and overload of our own service."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

import psutil
from prometheus_client.mmap_dict import MmapedDict

from sre.config import PROJECT
from tests.bench import bare, inputs
from tests.bench.figures import in_ms
from tests.bench.goals import MOBILE_RAW, RAW
from tests.bench.measure import OTHERS_CORES, Bench, Broken, running, watched, wrk
from tests.bench.processes import Tree
from tests.bench.servers import WORKERS, Model, Subject

STARTS = 10
START_CONNECTIONS = 16
OVERLOAD = 1.5
OVERLOAD_CONNECTIONS = 2048  # far more than may work and wait in both workers, 528: the service refuses, not the generator
_STEADY_CONNECTIONS = 64
_GENERATOR_LATE_MS = 2.0
_SATURATED_MS, _SATURATED_CORES = 10.0, 0.9
_together: Barrier


def stages(bench: Bench, models: Sequence[Model]) -> None:
    """CPU time of each stage by itself, and their sum with that of the bare HTTP exchange, us.

    As many processes as the service has workers measure at the same time: a core is slower while its sibling works.
    """
    spawn = multiprocessing.get_context("spawn")
    for model in models:
        barrier = spawn.Barrier(WORKERS)
        with spawn.Pool(WORKERS, initializer=_meet_at, initargs=(barrier,)) as pool:
            costs = pool.starmap(_stage_costs, [(model, bench.seconds * 0.3)] * WORKERS, chunksize=1)
        parts = {name: sum(cost[name] for cost in costs) / WORKERS for name in costs[0]}
        parts["http"] = bench.results.value(RAW if model.name == "resnet" else MOBILE_RAW, "cpu_us")
        bench.results.figures |= {f"stages {model.name} {name} us": value for name, value in parts.items()}
        bench.results.figures[f"stages {model.name} us"] = sum(parts.values())
        bench.say(f"stages  {model.name}: " + ", ".join(f"{name} {value:,.0f} us" for name, value in parts.items()))


def _meet_at(barrier: Barrier) -> None:
    global _together  # noqa: PLW0603 - a barrier can be inherited by a pool's processes, not sent to them
    _together = barrier


def _stage_costs(model: Model, seconds: float) -> dict[str, float]:
    """CPU time of a call of each stage, us; every process of the pool is in the same stage."""
    transform, infer = bare.preprocess(model.side), bare.engine(model.path)
    tensor = transform(model.jpeg)
    answer = infer(tensor)
    stages: dict[str, Callable[[], object]] = {
        "transform": lambda: transform(model.jpeg), "engine": lambda: infer(tensor), "json": lambda: bare.document(answer),
    }  # fmt: skip
    return {name: _cpu_us(work, seconds) for name, work in stages.items()}


def _cpu_us(work: Callable[[], object], seconds: float) -> float:
    """The median of five means, each over that long: CPU time of one call, us."""
    means = []
    for _ in range(5):
        _together.wait(60)
        calls, before, ends = 0, time.process_time(), time.monotonic() + seconds
        while time.monotonic() < ends:
            work()
            calls += 1
        means.append((time.process_time() - before) / calls * 1e6)
    return sorted(means)[2]


def preprocess(bench: Bench) -> None:
    """P99 of the system's transform, ms of CPU: of wall time it would be the P99 of who else is on the machine."""
    for picture, side, runs in ((inputs.MEDIUM, 32, 2000), (inputs.LARGE, 224, 1000), (inputs.HUGE, 224, 60)):
        body, transform = inputs.jpeg(picture), bare.preprocess(side)
        taken = []
        for _ in range(max(20, runs if bench.seconds > 1 else runs // 10)):
            before = time.thread_time()
            transform(body)
            taken.append(time.thread_time() - before)
        found = in_ms(taken)
        bench.results.figures[f"preprocess {picture.name} p99 ms"] = found["p99"]
        bench.say(f"preprocess  {picture.name}: P50 {found['p50']:.3f} ms, P99 {found['p99']:.3f} ms of {len(taken)}")


def starts(bench: Bench, make: Callable[[], Subject]) -> None:
    """The larger worker's share of the requests, the worst of some starts, from the counters of the workers themselves."""
    worst, count = 0.0, STARTS if bench.seconds > 1 else 3
    for number in range(1, count + 1):
        subject = make()
        with running(subject, bench) as trees:
            before = answered(trees)
            wrk(subject, bench, min(3, bench.seconds), START_CONNECTIONS)
            done = {pid: count - before.get(pid, 0) for pid, count in answered(trees).items()}
        done = {pid: count for pid, count in done.items() if count}  # the process that forked them counts nothing
        total = sum(done.values())
        if len(done) != 2 or not total:
            raise Broken(f"{subject.key}: {len(done)} workers count requests, not 2")
        worst = max(worst, 100 * max(done.values()) / total)
        bench.say(f"start {number}  shares {' / '.join(f'{100 * value / total:.1f} %' for value in done.values())}")
    bench.results.figures["largest share %"] = worst


def answered(trees: Sequence[Tree]) -> dict[int, float]:
    """Requests by worker, read from the metric files that the workers share."""
    found: dict[int, float] = {}
    for process in (process for tree in trees for process in tree.processes()):
        try:
            mapped = [each.path for each in process.memory_maps() if each.path.endswith(f"/counter_{process.pid}.db")]
        except psutil.Error:
            continue
        for file in mapped:
            values = MmapedDict.read_all_values_from_file(file)  # type: ignore[no-untyped-call]
            found[process.pid] = sum(value for key, value, *_ in values if "http_requests_total" in key)
    return found


def openloop(bench: Bench, make: Callable[[], Subject], seconds: int) -> None:
    """1000/s and 4000/s for some seconds, arrivals as a Poisson process has them."""
    subject = make()
    with running(subject, bench) as trees:
        wrk(subject, bench, 1, _STEADY_CONNECTIONS)
        for rate, length in ((1000, seconds), (4000, max(1, seconds // 3))):
            found, cores = generate(bench, subject, trees, rate=rate, seconds=length, connections=_STEADY_CONNECTIONS)
            bench.results.shown[f"open loop {rate}/s"] = found
            failed = found["planned"] - found["statuses"].get("200", 0)
            bench.results.figures |= {
                f"open {rate} failed": failed, f"open {rate} cores": cores,
                **{f"open {rate} {name} ms": value for name, value in found["accepted_ms"].items()},
            }  # fmt: skip
            bench.say(f"open loop {rate}/s  {_told(found)}  server {cores:.2f} cores")


def overload(bench: Bench, make: Callable[[], Subject], seconds: int) -> None:
    """Half more than the capacity, which the same generator finds in a closed loop."""
    subject = make()
    with running(subject, bench) as trees:
        generate(bench, subject, trees, rate=0, seconds=1, connections=bench.connections)
        capacity, _ = generate(bench, subject, trees, rate=0, seconds=max(2, seconds // 2), connections=bench.connections)
        rate = OVERLOAD * capacity["goodput"]
        found, cores = generate(bench, subject, trees, rate=rate, seconds=seconds, connections=OVERLOAD_CONNECTIONS)
    bench.results.shown |= {"capacity": capacity, "overload": found}
    other = sum(count for status, count in found["statuses"].items() if status not in ("200", "429", "503"))
    figures = {
        "overload goodput x": found["goodput"] / capacity["goodput"] if capacity["goodput"] else 0.0,
        "overload hung": found["hung"], "overload other": other,
    }  # fmt: skip
    for kind in ("accepted", "refused"):
        if found[f"{kind}_ms"]:
            figures[f"overload {kind} p99 ms"] = found[f"{kind}_ms"]["p99"]
    bench.results.figures |= figures
    bench.say(f"overload  capacity {capacity['goodput']:,.0f}/s, offered {rate:,.0f}/s: {_told(found)}  server {cores:.2f} cores")


def generate(  # noqa: PLR0913 - the plan of a load has that many parts
    bench: Bench, subject: Subject, trees: Sequence[Tree], *, rate: float, seconds: float, connections: int
) -> tuple[dict[str, Any], float]:
    """Run the open-loop generator; its document, and the cores that the server used meanwhile."""
    body, plan = bench.root / "run" / "open-body", bench.root / "run" / "open-plan.json"
    body.parent.mkdir(parents=True, exist_ok=True)
    body.write_bytes(subject.asked.body)
    asked = {"port": subject.ports[0], "path": subject.asked.path, "headers": dict(subject.asked.headers), "body": str(body)}
    plan.write_text(
        json.dumps(asked | {"rate": rate, "seconds": seconds, "connections": connections, "seed": 7}), encoding="utf-8"
    )
    command = [sys.executable, "-m", "tests.bench.openloop", str(plan)]
    try:
        for tries in range(1, bench.tries + 1):
            with watched(trees, bench) as used:
                done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=seconds + 60, check=False)
                spent = used()
            if done.returncode:
                raise Broken(f"the generator ended with {done.returncode}: {done.stderr.strip()[-300:]}")
            others = spent.others / spent.seconds
            if others <= OTHERS_CORES:
                break
            bench.say(f"  others used {others:.2f} cores, {'again' if tries < bench.tries else 'kept all the same'}")
    finally:
        plan.unlink()  # it holds the key
    found: dict[str, Any] = json.loads(done.stdout) | {"others_cores": others, "tries": tries}
    if others > OTHERS_CORES:
        bench.results.remarks.append(f"at {rate:,.0f}/s others used {others:.2f} cores, so this run says little")
    late = found["lateness_ms"].get("p99", 0.0)
    if late > _GENERATOR_LATE_MS:
        bench.results.remarks.append(f"the generator was late at {rate:,.0f}/s: P99 {late:.1f} ms")
    if late > _SATURATED_MS or found["generator_cores"] > _SATURATED_CORES:
        told = f"the generator was saturated: {found['generator_cores']:.2f} cores, P99 of its lateness {late:.1f} ms"
        bench.results.doubts["overload" if connections == OVERLOAD_CONNECTIONS else f"open {rate:.0f}"] = told
    return found, spent.server / found["took"]


def _told(found: Mapping[str, Any]) -> str:
    accepted, refused, late = (found[f"{kind}_ms"] for kind in ("accepted", "refused", "lateness"))
    parts = [f"statuses {found['statuses']}, hung {found['hung']}, of these never sent {found['unsent']}"]
    for name, values in (("accepted", accepted), ("refused", refused), ("generator late", late)):
        if values:
            parts.append(f"{name} P50 {values['p50']:.1f} P95 {values['p95']:.1f} P99 {values['p99']:.1f} ms")
    return ", ".join([*parts, f"generator {found['generator_cores']:.2f} cores"])
