"""What synchronous commit costs: three clusters side by side in one run, and what each does when both of its standbys are gone.

    python -m tests.bench.synchronous                            about ten minutes on two cores
    python -m tests.bench.synchronous --rounds 1 --seconds 2     to try it

pgbench inserts one row a transaction into the primary, prepared, over TLS. In every round each mode has its turn, in an order
drawn by lot, and a ratio compares two turns of one round. All members share this machine's cores and its disk, so a ratio is that
of this arrangement: between hosts of their own a standby flushes beside the primary, and a network lies between them.

Exit status: 0 when everything was measured and every mode did what it must in the outage, 1 when one did not, 4 when it could not
run, 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
import typer
from scipy.stats import quantile_test

from sre.cli import output
from sre.config import Settings
from sre.errors import ExitCode, SreError, StepFailed
from sre.faults.ledger import ACTIONS
from sre.judges.history import Fate
from sre.load import ledger_file, writers
from sre.measure.quantiles import quantile
from sre.targets.local import state, target
from sre.targets.local.layout import Synchronous
from sre.targets.local.programs import find
from sre.targets.local.target import LocalTarget

Floats = npt.NDArray[np.float64]

MODES: tuple[Synchronous, ...] = ("off", "on", "strict")
WRITERS = (1, 8)
WARM_S, WITHIN_S = 1, 60
OUTAGE_S, BEFORE_S, SETTLES_S = 10.0, 3.0, 1.0
TABLE = "CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)"
INSERT = r"INSERT INTO commits (payload) VALUES ('\x0011223344556677');"


class Figures(NamedTuple):
    """Of one turn: commits per second, and the median and P99 of what a writer waited for one, ms."""

    rate: float
    p50_ms: float
    p99_ms: float


class Outage(NamedTuple):
    """Both standbys gone.

    Attributes:
        seconds: its length.
        silent_s: the longest time in it without an acknowledged commit.
        late: commits acknowledged from SETTLES_S on: what was under way at its start may still be answered.
        resumed_s: from its end to the next acknowledged commit; None when none was seen.
    """

    seconds: float
    silent_s: float
    late: int
    resumed_s: float | None


def figures(log: Iterable[str]) -> Figures:
    """One turn from pgbench's log of transactions: client, number, latency in us, script, end in s and us since the epoch.

    Raises:
        StepFailed: there are fewer than 100 transactions, which have no P99.
    """
    rows = np.array([[int(field) for field in line.split()[:6]] for line in log], dtype=np.float64).reshape(-1, 6)
    if len(rows) < 100:
        raise StepFailed(f"pgbench made {len(rows)} commits, too few for a P99; give a turn more --seconds")
    waited, ended = rows[:, 2] / 1e6, rows[:, 4] + rows[:, 5] / 1e6
    span = float(ended.max() - (ended - waited).min())
    return Figures(len(rows) / span, quantile(waited, 0.5) * 1e3, quantile(waited, 0.99) * 1e3)


def ratio(values: Sequence[float], base: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Median of the ratios within rounds, and its exact 95 % interval; fewer than six rounds have none.

    The interval is that of order statistics (Conover 1999, section 3.2): it takes for granted that rounds are independent, and
    nothing else; of seven rounds it reaches from the least to the largest.
    """
    ratios = np.asarray(values) / np.asarray(base)
    found: Any = quantile_test(ratios, q=1.0, p=0.5).confidence_interval(0.95)  # a pair, which its stubs do not know
    low, high = float(found.low), float(found.high)
    return float(np.median(ratios)), (low, high) if np.isfinite([low, high]).all() else None


def outage(acked: Iterable[float], start: float, end: float) -> Outage:
    """What is seen of an outage. Times are monotonic, s: of acknowledgements in any order, of its start and of its end."""
    moments = sorted(acked)
    within = [moment for moment in moments if start < moment < end]
    silent = max(later - earlier for earlier, later in pairwise([start, *within, end]))
    late = sum(moment > start + SETTLES_S for moment in within)
    resumed = next((moment - end for moment in moments if moment >= end), None)
    return Outage(end - start, silent, late, resumed)


def complaints(outages: Mapping[Synchronous, Outage]) -> list[str]:
    """What a mode did in the outage that it must not, one sentence each; a mode that is missing did nothing that it must."""
    found = []
    for mode in MODES:
        seen = outages.get(mode)
        if seen is None:
            found.append(f"{mode}: no outage was measured")
        elif mode == "strict" and seen.late:
            found.append(f"strict: {seen.late:,} commits were acknowledged that only the primary has")
        elif mode != "strict" and not seen.late:
            found.append(f"{mode}: no commit was acknowledged in {seen.seconds:.0f} s without standbys; it must go on alone")
        elif seen.resumed_s is None:
            found.append(f"{mode}: no commit was acknowledged once the standbys were back")
    return found


def turn(one: LocalTarget, clients: int, seconds: int, folder: Path) -> Figures:
    """Commit as fast as `clients` can, after a short turn that warms up. Raises StepFailed when pgbench fails."""
    log = folder / "log"
    for length, options in ((WARM_S, ()), (seconds, ("--log", f"--log-prefix={log}"))):
        _pgbench(one, clients, length, folder, *options)
    (file,) = folder.glob("log.*")
    try:
        return figures(file.read_text(encoding="utf-8").splitlines())
    finally:
        file.unlink()


def _pgbench(one: LocalTarget, clients: int, seconds: int, folder: Path, *options: str) -> None:
    layout, postgres = one.layout, find("postgres", one.layout.tools)
    script = folder / "insert.sql"
    script.write_text(INSERT + "\n", encoding="utf-8")
    command = [
        str(postgres.companion("pgbench")), "--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--time={seconds}",
        f"--file={script}", *options, layout.dsn("drills", "drills"),
    ]  # fmt: skip
    environment = {**os.environ, **postgres.environment, "PGPASSFILE": str(layout.secrets / "passfile")}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds + WITHIN_S, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"pgbench did not end within {seconds + WITHIN_S} s; is the cluster of {layout.home} whole?") from error
    if done.returncode:
        raise StepFailed(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-600:]}")


def without_standbys(one: LocalTarget, mode: str, folder: Path) -> Outage:
    """End both standbys for a while, agent and server, while one writer writes. Their etcd stays: no quorum stops every mode."""
    layout, run = one.layout, f"outage-{mode}"
    dsn, passfile = layout.dsn("drills", "drills"), str(layout.secrets / "passfile")
    job = writers.Job(
        dsn=dsn, passfile=passfile, run=run, writers=1, rate=None, seconds=600.0, seed=1, ledger=str(folder / f"{run}.jsonl"),
        parent=os.getpid(),
    )  # fmt: skip
    standbys = [member.name for member in one.database.members() if member.role != "primary"]
    writing = writers.start(job, folder / run)
    try:
        time.sleep(BEFORE_S)
        for name in standbys:
            state.hold(layout.home, name)
            one.signal_service(name, signal.SIGKILL)
            one.database.crash(name)
        start = time.monotonic()
        time.sleep(OUTAGE_S)
        end = time.monotonic()
        for name in standbys:
            state.release(layout.home, name)
        ACTIONS["await-database"](one, {})
        time.sleep(BEFORE_S)
    finally:
        writing.stop()
    attempts = ledger_file.read(Path(job.ledger))
    return outage([at.done for at in attempts if at.fate is Fate.ACKED and at.done is not None], start, end)


def _prepare(one: LocalTarget, mode: Synchronous) -> None:
    """A whole cluster in its mode, with the table. Raises StepFailed when a commit there does not wait as the mode says."""
    ACTIONS["await-database"](one, {})
    waits = any(member.role == "sync_standby" for member in one.database.members())
    if waits != (mode != "off"):
        raise StepFailed(f"the cluster of mode {mode} has {'a' if waits else 'no'} synchronous standby; the mode is not in force")
    with psycopg.connect(one.layout.dsn("drills", "drills"), passfile=str(one.layout.secrets / "passfile")) as connection:
        connection.execute(TABLE)


def measure(rounds: int, seconds: int, folder: Path) -> dict[str, Any]:
    """All turns and outages, by mode, for machines. Begins the clusters below `folder` and ends them, whatever happens."""
    order, tools = random.Random(1), Settings().tools
    homes = {mode: folder / mode for mode in MODES}
    turns: dict[int, dict[Synchronous, list[Figures]]] = {clients: {mode: [] for mode in MODES} for clients in WRITERS}
    outages: dict[Synchronous, Outage] = {}
    try:
        clusters = {mode: target.up(homes[mode], tools, parts="cluster", synchronous=mode)[0] for mode in MODES}
        for mode, one in clusters.items():
            _prepare(one, mode)
        plan = [(clients, mode) for clients in WRITERS for mode in MODES]
        for number in range(1, rounds + 1):
            for clients, mode in order.sample(plan, len(plan)):
                turns[clients][mode].append(turn(clusters[mode], clients, seconds, folder))
                output.narrate(f"round {number}  {clients} x {mode}: {turns[clients][mode][-1].rate:,.0f} commits/s")
        for mode, one in clusters.items():
            outages[mode] = without_standbys(one, mode, folder)
            output.narrate(f"{mode}, both standbys gone: {outages[mode].silent_s:.1f} s without a commit")
    finally:
        for home in homes.values():
            target.down(home, purge=True)
    return {
        "turns": [
            {"writers": clients, "mode": mode, "rounds": [each._asdict() for each in of[mode]], **_shown(of[mode], of["off"])}
            for clients, of in turns.items()
            for mode in MODES
        ],
        "outages": {mode: seen._asdict() for mode, seen in outages.items()},
        "complaints": complaints(outages),
        "environment": {
            "PostgreSQL": find("postgres", tools).version(), "Patroni": version("patroni"), "cores": os.cpu_count(),
            "system": platform.platform(), "rounds": rounds, "seconds": seconds,
        },
    }  # fmt: skip


def _shown(of: Sequence[Figures], off: Sequence[Figures]) -> dict[str, Any]:
    found, interval = ratio([each.rate for each in of], [each.rate for each in off])
    medians = Figures(*(float(np.median(column)) for column in zip(*of, strict=True)))
    return {**medians._asdict(), "ratio": found, "interval": interval}


def show(document: Mapping[str, Any]) -> None:
    """Print what was measured as two tables."""
    rows = []
    for item in document["turns"]:
        between = f" [{item['interval'][0]:.2f}, {item['interval'][1]:.2f}]" if item["interval"] else ", too few rounds"
        of_off = "1" if item["mode"] == "off" else f"{item['ratio']:.2f}{between}"
        latencies = (f"{item['p50_ms']:.2f} ms", f"{item['p99_ms']:.2f} ms")
        rows.append((str(item["writers"]), item["mode"], f"{item['rate']:,.0f}", of_off, *latencies))
    columns = ("writers", "synchronous", "commits/s", "of off [95 %]", "median", "P99")
    output.table(columns, rows, right=frozenset(columns) - {"synchronous"})
    outages = []
    for mode, seen in document["outages"].items():
        resumed = "none" if seen["resumed_s"] is None else f"{seen['resumed_s']:.1f} s"
        outages.append((mode, f"{seen['silent_s']:.1f} of {seen['seconds']:.0f} s", resumed))
    output.table(("both standbys gone", "longest without a commit", "first after their return"), outages)
    found = document["environment"]
    typer.echo(
        f"PostgreSQL {found['PostgreSQL']}, Patroni {found['Patroni']}, {found['cores']} cores, {found['system']}; medians of "
        f"{found['rounds']} rounds of {found['seconds']} s, ratios within a round"
    )


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Of every mode and number of writers; six are needed for an interval.")] = 7,
    seconds: Annotated[int, typer.Option(min=1, help="Length of one turn.")] = 10,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one document with every turn.")] = False,
) -> None:
    """Measure off, on and strict, print what they cost, and fail when one does not do what it must without its standbys."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="synchronous-"))
    folder.chmod(0o755)
    try:
        document = measure(rounds, seconds, folder)
    except KeyboardInterrupt:
        output.narrate("interrupted; every cluster that was begun has ended")
        raise typer.Exit(130) from None
    except (SreError, psycopg.Error) as error:
        output.narrate(f"could not run: {error}")
        raise typer.Exit(ExitCode.CANNOT_RUN) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        typer.echo(json.dumps({"schema": "ml.bench-synchronous/1", **document}, indent=2))
    else:
        show(document)
    for sentence in document["complaints"]:
        output.narrate(sentence)
    raise typer.Exit(ExitCode.BROKEN if document["complaints"] else ExitCode.KEPT)


if __name__ == "__main__":
    typer.run(main)
